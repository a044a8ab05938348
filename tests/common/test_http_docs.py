"""The page at /docs: all that it loads comes from the service itself."""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from httpx import Client

from reimagen_common.http_docs import add_docs
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_openapi import describe_api
from reimagen_common.http_server import HttpServer, listen


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    app = FastAPI(title="Foxes & <keas>", docs_url=None, redoc_url=None)
    register_error_handlers(app)
    add_docs(app)
    describe_api(app)

    @app.post("/foxes/{name}")
    async def add(name: int, fox: dict[str, int]) -> int:
        return name

    listening = listen("127.0.0.1:0")
    server = HttpServer(app, listening)
    server.start()
    with Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=20) as client:
        yield client
    server.stop()


def test_the_page_loads_nothing_from_other_hosts(client: Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Foxes &amp; &lt;keas&gt;</title>" in page.text
    assert "//" not in page.text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    types = [client.get(f"/{path}").headers["content-type"].partition(";")[0] for path in loaded]
    assert sorted(types) == ["image/png", "text/css", "text/javascript", "text/javascript"]
    assert "openapi.json" in client.get("/docs/start.js").text
    assert client.get("/docs/other.js").status_code == 404
    assert client.get("/redoc").status_code == 404


def test_the_security_policy_forbids_other_hosts(client: Client) -> None:
    policy = client.get("/docs").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not re.search(r"https?:|script-src [^;]*unsafe|\*", policy)


def test_the_document_lists_our_errors_only(client: Client) -> None:
    document = client.get("/openapi.json").json()
    responses = document["paths"]["/foxes/{name}"]["post"]["responses"]
    assert set(responses) == {"200", "400", "408", "413", "421", "429", "431", "500"}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert all(responses[status]["content"] == problem for status in responses if status != "200")
    assert set(document["components"]["schemas"]) == {"Problem", "OpenAIError"}
    assert "Retry-After" in responses["429"]["headers"]
