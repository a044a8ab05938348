"""Errors over HTTP, of a real app over a real socket."""

import logging
import queue
import socket
import threading
from collections.abc import Iterator
from logging.handlers import QueueHandler
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from httpx import Client, Response
from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.errors import DeadlineExceeded, InvalidArgument, NotFound, Overloaded, ReimagenError, Unavailable
from reimagen_common.http_errors import Problem, register_error_handlers


class Guidance(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text_weight: float = Field(1.0, ge=0, le=100)


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=1_000)
    guidance: Guidance | None = None


RAISED: dict[str, Exception] = {
    "invalid": InvalidArgument("must be 1 to 16, got 1,000", field="retrieval.k"),
    "missing": NotFound("there is no such image"),
    "busy": Overloaded("the queue is full", retry_after=1.2),
    "down": Unavailable("the retriever does not answer", retry_after=5),
    "late": DeadlineExceeded("the time is up"),
    "fault": ReimagenError("the image could not be drawn"),
    "bug": ValueError("the secret path"),
}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    app = FastAPI()
    register_error_handlers(app)

    @app.post("/draw")
    def draw(request: Request) -> dict[str, str]:
        return {"prompt": request.prompt}

    @app.get("/raise/{name}")
    def fail(name: str) -> None:
        raise RAISED[name]

    # The socket listens from here on, so that a request waits for the server's start instead of failing.
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    with Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=20) as client:
        yield client
    server.should_exit = True
    thread.join()


def problem_of(response: Response) -> Problem:
    """Return the body, after checking that its two halves agree."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.text)
    assert problem.status == response.status_code
    assert problem.error.message == problem.detail
    assert problem.error.param == problem.field
    assert ("field" in response.json()) == (problem.field is not None)
    return problem


@pytest.mark.parametrize(
    ("name", "status", "kind", "retry_after"),
    [
        ("invalid", 400, "invalid_request_error", None),
        ("missing", 404, "not_found_error", None),
        ("busy", 429, "overloaded_error", "2"),
        ("down", 503, "unavailable_error", "5"),
        ("late", 504, "timeout_error", None),
        ("fault", 500, "server_error", None),
    ],
)
def test_each_error_has_its_status(client: Client, name: str, status: int, kind: str, retry_after: str | None) -> None:
    response = client.get(f"/raise/{name}")
    problem = problem_of(response)
    raised = RAISED[name]
    assert isinstance(raised, ReimagenError)
    assert (response.status_code, problem.error.type, problem.detail, problem.field) == (
        status,
        kind,
        raised.message,
        raised.field,
    )
    assert response.headers.get("retry-after") == retry_after


def test_an_unexpected_failure_is_logged_and_hidden_from_the_client(client: Client) -> None:
    logged: queue.Queue[logging.LogRecord] = queue.Queue()
    handler = QueueHandler(logged)
    logging.getLogger("uvicorn.error").addHandler(handler)
    try:
        response = client.get("/raise/bug")
        assert problem_of(response).status == 500
        assert "secret" not in response.text
        assert "the secret path" in logged.get(timeout=20).getMessage()
    finally:
        logging.getLogger("uvicorn.error").removeHandler(handler)


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"prompt": "x" * 10_000}, "prompt", "at most 1000 characters"),
        ({}, "prompt", "is required"),
        ({"prompt": "a fox", "promt": 1}, "promt", "no such field"),
        ({"prompt": "a fox", "guidance": {"text_weight": -1}}, "guidance.text_weight", "greater than or equal to 0"),
        ({"prompt": 7}, "prompt", "valid string"),
    ],
    ids=["empty", "long", "missing", "unknown", "nested", "type"],
)
def test_an_invalid_request_names_the_field(client: Client, body: dict[str, Any], field: str, says: str) -> None:
    response = client.post("/draw", json=body)
    problem = problem_of(response)
    assert (response.status_code, problem.field) == (400, field)
    assert problem.detail.startswith(f"{field}: ")
    assert says in problem.detail
    assert len(problem.detail) < 200


@pytest.mark.parametrize("content", [b"{not json", b"", b"[]", b"\xff\xfe"])
def test_a_body_other_than_a_json_object_is_reported(client: Client, content: bytes) -> None:
    response = client.post("/draw", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, problem_of(response).field) == (400, "body")


@pytest.mark.parametrize(
    ("content", "media_type"),
    [(b"", "application/json"), (b"[1]", "application/json"), (b'"prompt"', "application/json")]
    + [(b'{"prompt": "a fox"}', media_type) for media_type in ("text/plain", "application/x-www-form-urlencoded")],
)
def test_the_error_names_the_expected_content_type(client: Client, content: bytes, media_type: str) -> None:
    response = client.post("/draw", content=content, headers={"content-type": media_type})
    assert problem_of(response).detail == "body: send a JSON object with Content-Type: application/json"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/draw", 405)])
def test_an_unknown_path_or_method_gets_a_problem(client: Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    problem = problem_of(response)
    assert response.status_code == status
    assert path in problem.detail
    assert (response.headers.get("allow") == "POST") == (status == 405)
