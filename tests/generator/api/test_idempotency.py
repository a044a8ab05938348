"""Requests that are sent again with the same key."""

import contextlib
import http.client
import io
import json
from typing import Any

import httpx
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from reimagen_generator.api.http.idempotency import NAME, PATTERN
from reimagen_generator.jobs.store import parse_key
from tests.waiting import SECONDS, wait_until

URL = "/v1/images/generations"
EDITS = "/v1/images/edits"
BODY = {"prompt": "a red panda", "retrieval": {"k": 0}, "size": "16x16"}


def post(service: Any, key: str, **fields: Any) -> httpx.Response:
    answer: httpx.Response = service.rest.post(URL, json={**BODY, **fields}, headers={"Idempotency-Key": key})
    return answer


def test_the_same_key_returns_the_same_answer(served: Any) -> None:
    finished = served.engine.counters.finished
    first = post(served, "one").json()
    assert post(served, '"one"').json() == first
    assert served.engine.counters.finished == finished + 1
    assert post(served, "two").json()["seed"] != first["seed"]


@given(st.from_regex(PATTERN, fullmatch=True))
@example('"a"')
@example("x" * 255)
def test_every_documented_key_is_read(key: str) -> None:
    parse_key(key.removesuffix("\n"), field=NAME)  # a `$` of Python also matches before a final line break


def test_another_body_is_refused(served: Any) -> None:
    post(served, "three")
    refused = post(served, "three", n=2)
    assert (refused.status_code, refused.json()["field"]) == (422, "Idempotency-Key")


def test_an_edit_is_another_request(served: Any) -> None:
    def edit(color: str) -> httpx.Response:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), color).save(buffer, "PNG")
        answer: httpx.Response = served.rest.post(
            EDITS,
            files={"image": buffer.getvalue()},
            data={"prompt": "a red panda", "size": "16x16"},
            headers={"Idempotency-Key": "four"},
        )
        return answer

    first = edit("red")
    assert first.status_code == 200
    assert edit("red").json() == first.json()
    assert edit("blue").status_code == 422
    assert post(served, "four").status_code == 422


def test_a_failed_request_may_be_sent_again(served: Any) -> None:
    for _ in range(2):
        assert post(served, "five", retrieval={"k": 1}).status_code == 503
    assert post(served, "five").status_code == 200


def test_a_stream_has_no_key(served: Any) -> None:
    refused = post(served, "six", stream=True)
    assert (refused.status_code, refused.json()["field"]) == (400, "Idempotency-Key")


def test_a_request_that_is_still_handled_is_a_conflict(endless: Any) -> None:
    before = endless.engine.counters
    url = endless.rest.base_url
    with contextlib.closing(http.client.HTTPConnection(url.host, url.port, timeout=SECONDS)) as first:
        headers = {"Content-Type": "application/json", "Idempotency-Key": "seven"}
        first.request("POST", URL, json.dumps(BODY), headers)
        wait_until(lambda: endless.engine.counters.steps > before.steps)
        conflict = post(endless, "seven")
        assert (conflict.status_code, int(conflict.headers["retry-after"])) == (409, 1)
    wait_until(lambda: endless.engine.counters.cancelled > before.cancelled)
