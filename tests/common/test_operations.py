"""Health, metrics and request ids, of a real app over a real socket."""

import logging
from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI
from httpx import Client
from prometheus_client.parser import text_string_to_metric_families

from reimagen_common.errors import Overloaded
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_server import HttpServer, listen
from reimagen_common.operations import Health, operations_router
from reimagen_common.request_id import current

HEALTH: dict[str, Health] = {}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    app = FastAPI()
    register_error_handlers(app)
    router = APIRouter(prefix="/v1")

    @router.get("/pairs/{name:path}")
    def read(name: str) -> dict[str, str]:
        logging.getLogger("test").warning("reading")
        if name == "busy":
            raise Overloaded("too many")
        if name == "bug":
            raise ValueError("the secret path")
        return {"name": name}

    app.include_router(router)
    app.include_router(operations_router(lambda: HEALTH["now"]))
    listening = listen("127.0.0.1:0")
    server = HttpServer(app, listening)
    server.start()
    with Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=20) as client:
        yield client
    server.stop()


def metric(client: Client, name: str, **labels: str) -> float:
    """Return the sum of the samples of a name whose labels include the given ones."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@pytest.mark.parametrize(
    ("health", "ready"),
    [
        (Health(status="starting"), 503),
        (Health(status="ready"), 200),
        (Health(status="degraded", reasons=["Redis does not answer"]), 200),
        (Health(status="stopping"), 503),
    ],
    ids=lambda value: value.status if isinstance(value, Health) else "",
)
def test_health_distinguishes_starting_ready_degraded_and_stopping(client: Client, health: Health, ready: int) -> None:
    HEALTH["now"] = health
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == ready
    if ready == 503:
        assert answer.json()["detail"] == f"the service is {health.status}"
    assert Health.model_validate(client.get("/healthz").json()) == health


def test_metrics_are_labeled_with_routes(client: Client) -> None:
    counted = "reimagen_http_request_seconds_count"
    labels = {"method": "GET", "route": "/v1/pairs/{name:path}"}

    def measured() -> tuple[float, ...]:
        by_status = (metric(client, counted, **labels, status=status) for status in ("200", "429", "500"))
        return (*by_status, metric(client, "reimagen_overload_refusals_total", face="http"))

    before = measured()
    for name, status in {"a": 200, "a/b.c": 200, "busy": 429, "bug": 500}.items():
        assert client.get(f"/v1/pairs/{name}").status_code == status
    assert [now - then for now, then in zip(measured(), before, strict=True)] == [2, 1, 1, 1]
    assert metric(client, "reimagen_http_requests_in_flight") == 0
    assert metric(client, "process_resident_memory_bytes") > 0


def test_unknown_routes_add_no_label(client: Client) -> None:
    others = {"route": "other", "status": "404"}
    before = metric(client, "reimagen_http_request_seconds_count", **others)
    for number in range(3):
        assert client.get(f"/nowhere/{number}").status_code == 404
        assert client.request(f"BREW{number}", "/v1/pairs/a").status_code == 405
    assert client.post("/v1/pairs/secret").status_code == 405
    text = client.get("/metrics").text
    assert not any(word in text for word in ("nowhere", "BREW", "secret", "/metrics"))
    assert metric(client, "reimagen_http_request_seconds_count", **others) == before + 3


@pytest.mark.parametrize(
    ("sent", "kept"), [("0af7-651/x", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)]
)
def test_a_request_id_is_in_the_response_and_in_the_log(
    client: Client, caplog: pytest.LogCaptureFixture, sent: str, kept: bool
) -> None:
    names: list[tuple[str, str | None]] = []

    def note(record: logging.LogRecord) -> bool:
        names.append((record.getMessage(), current()))
        return True

    caplog.handler.addFilter(note)
    with caplog.at_level(logging.INFO):
        answered = client.get("/v1/pairs/a", headers={"x-request-id": sent}).headers["x-request-id"]
    assert (answered == sent) == kept
    assert len(answered) == 32 or kept
    assert [name for name in names if name[0] in ("reading", "request")] == [
        ("reading", answered),
        ("request", answered),
    ]


def test_each_request_without_an_id_gets_one_even_if_it_fails(client: Client) -> None:
    names = {client.get(f"/v1/pairs/{path}").headers["x-request-id"] for path in ("a", "bug", "busy", "a")}
    names.add(client.get("/nowhere").headers["x-request-id"])
    assert len(names) == 5
