"""What the clients do when a service fails: retries, errors, broken streams."""

import asyncio
import json
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from reimagen_client import (
    AsyncClient,
    Client,
    Conflict,
    DeadlineExceeded,
    Done,
    InvalidRequest,
    JobFailed,
    NotFound,
    Overloaded,
    PermissionDenied,
    ReimagenError,
    RetryPolicy,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from reimagen_client.models import JobEvent, JobStatusChanged
from reimagen_client.retries import Attempts
from tests.client.conftest import Answer, Failing, answer, broken

AT_ONCE = RetryPolicy(first_seconds=0)
DRAWN = {"data": [{"b64_json": "aW1hZ2U=", "seed": 7}]}
BUSY = {"title": "Too Many Requests", "detail": "the queue is full"}

Generate = Callable[[Failing], Any]


def generate(failing: Failing) -> Any:
    with Client(failing.url, retry=AT_ONCE) as client:
        return client.generate("a fox")


def generate_asynchronously(failing: Failing) -> Any:
    async def draw() -> Any:
        async with AsyncClient(failing.url, retry=AT_ONCE) as client:
            return await client.generate("a fox")

    return asyncio.run(draw())


@pytest.fixture(params=[generate, generate_asynchronously], ids=["sync", "async"])
def draw(request: pytest.FixtureRequest) -> Generate:
    function: Generate = request.param
    return function


@pytest.mark.parametrize(
    "failure",
    [
        answer(429, BUSY, Retry_After="0"),
        answer(429, BUSY, Retry_After=formatdate(0, usegmt=True)),
        answer(429, BUSY, Retry_After="soon"),
        answer(503, {}),
        answer(502, "<h1>Bad gateway</h1>"),
        broken,
    ],
    ids=["seconds", "date", "unreadable", "unavailable", "gateway", "broken"],
)
def test_a_request_is_sent_again_with_the_same_key(failing: Failing, draw: Generate, failure: Answer) -> None:
    failing.answers = [failure, failure, answer(200, DRAWN)]
    assert draw(failing).images[0].content == b"image"
    keys = [request.headers["Idempotency-Key"] for request in failing.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize("failure", [broken, answer(502, {})], ids=["broken", "gateway"])
def test_a_conflict_after_a_broken_connection_is_waited_out(failing: Failing, draw: Generate, failure: Answer) -> None:
    failing.answers = [failure, answer(409, {"detail": "still drawn"}), answer(200, DRAWN)]
    assert draw(failing).images


def test_a_conflict_of_the_first_request_is_raised(failing: Failing, draw: Generate) -> None:
    failing.answers = [answer(409, {"detail": "still drawn"}), answer(200, DRAWN)]
    with pytest.raises(Conflict, match="still drawn"):
        draw(failing)


def test_a_long_pause_is_left_to_the_caller(failing: Failing, draw: Generate) -> None:
    failing.answers = [answer(429, BUSY, Retry_After="3600")]
    with pytest.raises(Overloaded, match="the queue is full") as raised:
        draw(failing)
    assert raised.value.retry_after == 3600
    assert len(failing.requests) == 1


def test_pauses_grow_and_are_at_least_what_the_service_asks_for() -> None:
    attempts = Attempts(RetryPolicy(retries=4, first_seconds=2.0, longest_seconds=10.0), repeatable=True, keyed=True)
    first, *later = [attempts.pause(Unavailable("starting", status=503, retry_after=3.0)) for _ in range(4)]
    assert first == 3.0
    assert 3.0 <= later[0] <= 5.0
    assert 6.0 <= later[1] <= later[2] == 10.0


def test_retries_end(failing: Failing, draw: Generate) -> None:
    failing.answers = [answer(503, {"detail": "starting"})]
    with pytest.raises(Unavailable, match="starting"):
        draw(failing)
    assert len(failing.requests) == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (401, Unauthenticated),
        (403, PermissionDenied),
        (404, NotFound),
        (408, DeadlineExceeded),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (500, ServerError),
        (504, DeadlineExceeded),
    ],
)
def test_a_status_is_an_error_that_names_its_field(
    failing: Failing, draw: Generate, status: int, error: type[ReimagenError]
) -> None:
    failing.answers = [answer(status, {"error": {"message": "no", "param": "size", "code": "bad"}})]
    with pytest.raises(error, match=r"^no$") as raised:
        draw(failing)
    assert (raised.value.status, raised.value.field, raised.value.code) == (status, "size", "bad")
    assert type(raised.value) is error
    assert len(failing.requests) == 1


@pytest.mark.parametrize(
    "body",
    ["<html>", {}, [], {"data": [{}]}, {"data": [{"b64_json": "?"}]}, DRAWN | {"neighbors": [{"rank": "first"}]}],
)
def test_an_answer_that_is_none_is_reported(failing: Failing, draw: Generate, body: object) -> None:
    failing.answers = [answer(200, body)]
    with pytest.raises(ServerError):
        draw(failing)


def test_an_error_page_is_quoted(failing: Failing, draw: Generate) -> None:
    failing.answers = [answer(502, "<h1>Bad gateway</h1>")]
    with pytest.raises(Unavailable, match="Bad gateway"):
        draw(failing)


def test_a_time_limit_ends_a_request(failing: Failing) -> None:
    failing.answers = [_wait]
    with Client(failing.url, timeout=0.05) as client, pytest.raises(DeadlineExceeded, match="did not answer in time"):
        client.models()
    assert len(failing.requests) == 1


def _wait(handler: BaseHTTPRequestHandler) -> None:
    """Wait until the client closes the connection."""
    handler.rfile.read(1)
    handler.close_connection = True


def sse(*events: dict[str, Any], first_id: int | None = None) -> str:
    """Return events as they are sent, with ids if the first id is given."""
    lines = []
    for number, event in enumerate(events):
        start = "" if first_id is None else f"id: {first_id + number}\n"
        lines.append(f"{start}event: {event['type']}\ndata: {json.dumps(event)}\n\n")
    return "".join(lines)


DONE = {"type": "image_generation.completed", "b64_json": "aW1hZ2U=", "usage": {"total_tokens": 3}}


def test_the_events_of_openai_are_read(failing: Failing) -> None:
    partial = {"type": "image_generation.partial_image", "b64_json": "aW1hZ2U=", "partial_image_index": 0}
    failing.answers = [answer(200, ": hello\n\n" + sse({"type": "new"}, partial, DONE) + "data: [DONE]\n\n")]
    with Client(failing.url) as client:
        events = list(client.stream("a fox", previews=1))
    assert [type(event).__name__ for event in events] == ["Preview", "Done"]
    body = json.loads(failing.requests[0].body)
    assert body == {"prompt": "a fox", "stream": True, "partial_images": 1}  # No field that OpenAI does not have.


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (sse({"type": "error", "error": {"type": "timeout_error", "message": "late"}}), DeadlineExceeded, "late"),
        (sse(DONE), Unavailable, "after 1 of 2 images"),
        ("data: {\n\n", ServerError, "no JSON"),
        ("data: 1\n\n", ServerError, "no JSON object"),
        (sse({"type": "image_generation.progress"}), ServerError, "index"),
    ],
)
def test_a_stream_that_ends_early_is_an_error(
    failing: Failing, text: str, error: type[ReimagenError], message: str
) -> None:
    failing.answers = [answer(200, text)]
    with Client(failing.url) as client, pytest.raises(error, match=message):
        list(client.stream("a fox", n=2))
    assert len(failing.requests) == 1


@pytest.mark.parametrize("failure", [broken, answer(502, {})], ids=["broken", "gateway"])
def test_a_stream_is_not_sent_again_once_it_may_have_begun(failing: Failing, failure: Answer) -> None:
    failing.answers = [failure, answer(200, sse(DONE))]
    with Client(failing.url, retry=AT_ONCE) as client, pytest.raises(Unavailable):
        list(client.stream("a fox"))
    assert len(failing.requests) == 1


def test_a_refused_stream_is_sent_again(failing: Failing) -> None:
    failing.answers = [answer(429, BUSY, Retry_After="0"), answer(200, sse(DONE))]
    with Client(failing.url) as client:
        assert [type(event) for event in client.stream("a fox")] == [Done]


def cut(text: str) -> Answer:
    """Return an answer that breaks off after a text."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(text) + 1))
        handler.end_headers()
        handler.wfile.write(text.encode())
        handler.close_connection = True

    return send


QUEUED, RUNNING, FAILED = ({"type": f"job.{status}"} for status in ("queued", "running", "failed"))


def watch(failing: Failing) -> list[JobEvent]:
    with Client(failing.url, retry=AT_ONCE) as client:
        return list(client.jobs.watch("job/1"))


def watch_asynchronously(failing: Failing) -> list[JobEvent]:
    async def events() -> list[JobEvent]:
        async with AsyncClient(failing.url, retry=AT_ONCE) as client:
            return [event async for event in client.jobs.watch("job/1")]

    return asyncio.run(events())


@pytest.mark.parametrize("watch_job", [watch, watch_asynchronously], ids=["sync", "async"])
def test_a_broken_watch_continues_after_its_last_event(
    failing: Failing, watch_job: Callable[[Failing], list[JobEvent]]
) -> None:
    failing.answers = [cut(sse(QUEUED, first_id=3)), answer(200, sse(RUNNING, FAILED, first_id=4))]
    statuses = [event.status for event in watch_job(failing) if isinstance(event, JobStatusChanged)]
    assert statuses == ["queued", "running", "failed"]
    assert [request.headers["Last-Event-ID"] for request in failing.requests] == ["0", "3"]
    assert failing.requests[0].line == "GET /v1/jobs/job%2F1/events"


def test_a_watch_ends_with_its_job_even_if_a_comment_follows(failing: Failing) -> None:
    failing.answers = [answer(200, sse(FAILED, first_id=1) + ": goodbye\n\n"), answer(500)]
    assert watch(failing) == [JobStatusChanged(status="failed")]
    assert len(failing.requests) == 1


@pytest.mark.parametrize("watch_job", [watch, watch_asynchronously], ids=["sync", "async"])
def test_a_watch_without_progress_ends(failing: Failing, watch_job: Callable[[Failing], list[JobEvent]]) -> None:
    failing.answers = [cut(sse(QUEUED, first_id=3)), cut("")]
    with pytest.raises(Unavailable):
        watch_job(failing)
    failing.answers = [answer(204)]
    assert watch_job(failing) == []


def test_a_failed_job_is_an_error(failing: Failing) -> None:
    error = {"type": "unavailable_error", "message": "the retriever is down", "param": None, "code": "x"}
    job = {"id": "job_1", "status": "failed", "created_at": 1, "request": {}, "data": [], "error": error}
    failing.answers = [answer(200, sse(FAILED, first_id=1)), answer(200, job)]
    with Client(failing.url) as client, pytest.raises(JobFailed, match="job_1: the retriever is down"):
        client.jobs.wait("job_1")
