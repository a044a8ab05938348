"""The hook that decides whether a prompt or a pair is allowed."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_generator.moderation.hook import Hook, Question
from tests.image_server import Handler, Server, answer, serving

PROMPT: Question = {"kind": "prompt", "prompt": "a fox"}
PAIR: Question = {"kind": "pair", "caption": "a fox", "source": "s", "license": "MIT", "image": b"\x89PNG"}
HERE = __name__

released = threading.Event()


def judge(question: Question) -> dict[str, Any]:
    return {"allowed": question["kind"] == "prompt", "reason": f"no {question['kind']}s"}


def fail(question: Question) -> None:
    raise RuntimeError(f"secret {question}")


def wait(question: Question) -> None:
    released.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def hook(server: Server, *answers: Callable[[Handler], None], api_key: str | None = None) -> Hook:
    server.answers, server.requests = list(answers), []
    return Hook(f"http://127.0.0.1:{server.server_port}/judge", seconds=30, api_key=api_key)


def test_an_endpoint_and_a_function_get_the_same_questions(server: Server) -> None:
    verdict = answer(200, b'{"allowed": false, "reason": "no foxes"}')
    asked = hook(server, verdict, answer(200, b'{"allowed": true}'), api_key="k")
    (refused,) = asked.ask([PAIR], remaining=60)
    (allowed,) = asked.ask([PROMPT], remaining=60)
    assert (refused.allowed, refused.reason, allowed.allowed) == (False, "no foxes", True)
    assert [json.loads(body) for _, _, body in server.requests] == [{**PAIR, "image": "iVBORw=="}, PROMPT]
    assert {(path, headers["authorization"]) for path, headers, _ in server.requests} == {("/judge", "Bearer k")}
    verdicts = Hook(f"{HERE}:judge", seconds=1).ask([PROMPT, PAIR], remaining=60)
    assert [(one.allowed, one.reason) for one in verdicts] == [(True, "no prompts"), (False, "no pairs")]


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (answer(500, b'{"allowed": true}'), "status 500"),
        (answer(302, location="http://127.0.0.1:1/"), "status 302"),
        (answer(200, b"yes"), "is invalid"),
        (answer(200, b'{"allowed": "yes"}'), "allowed: "),
        (answer(200, b"[]"), "is invalid"),
        (answer(200, b" " * 100_000), "longer than"),
        (answer(200, b"{", declared=9), "cannot be reached"),
    ],
)
def test_an_endpoint_without_a_verdict_cannot_be_asked(
    given: Callable[[Handler], None], cause: str, server: Server
) -> None:
    with pytest.raises(Unavailable, match=cause) as caught:
        hook(server, given).ask([PROMPT], remaining=60)
    assert caught.value.retry_after
    assert str(server.server_port) not in caught.value.message


def test_an_endpoint_that_is_down_and_a_function_that_fails() -> None:
    for address, cause in (("http://127.0.0.1:1/", "cannot be reached"), (f"{HERE}:fail", "failed with RuntimeError")):
        with pytest.raises(Unavailable, match=cause) as caught:
            Hook(address, seconds=30).ask([PROMPT], remaining=60)
        assert "secret" not in caught.value.message


def test_the_deadline_of_the_request_shortens_the_time_out() -> None:
    released.clear()
    try:
        with pytest.raises(Unavailable, match="within 0 seconds"):
            Hook(f"{HERE}:wait", seconds=60).ask([PROMPT, PROMPT], remaining=0)
    finally:
        released.set()


@pytest.mark.parametrize(
    "address", ["ftp://a/b", "http://", "json", "json:", "json:missing", "no_such:f", f"{HERE}:HERE"]
)
def test_an_address_that_is_no_hook_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument, match="moderation_hook"):
        Hook(address, seconds=1)
