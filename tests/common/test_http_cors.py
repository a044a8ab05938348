"""Pages of other origins, with and without keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import Client
from pydantic import TypeAdapter, ValidationError

from reimagen_common.access.guard import Guard
from reimagen_common.access.http import add_key_check
from reimagen_common.access.key_file import KeyFile, add_key
from reimagen_common.access.keys import make_key
from reimagen_common.access.rights import Right
from reimagen_common.access.settings import AccessSettings
from reimagen_common.http_cors import Origins, add_cors
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_server import HttpServer, listen

APP = "https://app.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    key, stored = make_key("page", frozenset({Right.READ}))
    add_key(file, stored)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    register_error_handlers(app)
    app.post("/read")(lambda: 1)
    add_key_check(app, Guard(KeyFile(file)), {"POST /read": Right.READ})
    add_cors(app, (APP,))
    listening = listen("127.0.0.1:0")
    server = HttpServer(app, listening)
    server.start()
    base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with Client(base_url=base_url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as client:
        yield client
    server.stop()


def test_a_page_of_an_allowed_origin_may_ask_and_read(client: Client) -> None:
    # Browsers send no key with a preflight request.
    allowed = client.options("/read", headers={"Origin": APP, "Authorization": ""} | PREFLIGHT)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, APP)
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    answer = client.post("/read", headers={"Origin": APP})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, APP)
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    # The page can also read why it is refused.
    refused = client.post("/read", headers={"Origin": APP, "Authorization": "Bearer x"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, APP)


def test_a_page_of_another_origin_may_not(client: Client) -> None:
    for origin in ("https://evil.example.org", "http://app.example.org", "null", f"{APP}.evil.org"):
        assert client.options("/read", headers={"Origin": origin} | PREFLIGHT).status_code == 400
        assert "access-control-allow-origin" not in client.post("/read", headers={"Origin": origin}).headers


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        ("https://a.org, http://localhost:3000", ("https://a.org", "http://localhost:3000")),
        (("https://a.org",), ("https://a.org",)),
    ],
)
def test_origins_are_read(given: Any, origins: tuple[str, ...]) -> None:
    assert TypeAdapter(Origins).validate_python(given) == origins


@pytest.mark.parametrize(
    "given", ["a.org", "https://a.org/", "https://a.org/app", "ftp://a.org", "https://A.org", "https://u@a.org", "null"]
)
def test_what_is_no_origin_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="must be origins, such as"):
        TypeAdapter(Origins).validate_python(given)


def test_all_origins_only_with_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cors_origins: \* requires keys"):
        AccessSettings(cors_origins=("*",)).check_exposure([])
    AccessSettings(cors_origins=("*",), keys=tmp_path).check_exposure([])
    AccessSettings(cors_origins=(APP,)).check_exposure([])
