"""Jobs over REST."""

import base64
import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.waiting import wait_until, waiting_requests

URL = "/v1/jobs"
SECONDS = 240
BODY = {"prompt": "a red panda", "retrieval": {"k": 0}, "size": "16x16"}


def create(service: Any, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    response = service.rest.post(URL, json={**BODY, **fields}, headers=headers)
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    assert response.headers["location"].endswith(f"{URL}/{job['id']}")
    return job


def events_of(service: Any, job_id: str, after: int | None = None) -> list[tuple[int, str, dict[str, Any]]]:
    """The events until the job has ended."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    text = service.rest.get(f"{URL}/{job_id}/events", headers=headers).text
    events = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if lines:
            events.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return events


def finished(service: Any, job_id: str) -> dict[str, Any]:
    events_of(service, job_id)
    job: dict[str, Any] = service.rest.get(f"{URL}/{job_id}").json()
    return job


def test_a_job_draws_what_a_request_draws(served: Any) -> None:
    job = create(served, n=2, seed=7)
    assert (job["status"], job["object"], job["data"]) == ("queued", "job", [])
    job = finished(served, job["id"])
    assert job["status"] == "completed"
    assert job["created_at"] <= job["started_at"] <= job["finished_at"] < job["expires_at"]
    assert (job["request"]["seed"], job["request"]["size"], job["text_only"]) == (7, "16x16", True)
    direct = served.rest.post("/v1/images/generations", json={**BODY, "n": 2, "seed": 7}).json()
    assert [image["seed"] for image in job["data"]] == [7, 8]
    assert [httpx.get(image["url"]).content for image in job["data"]] == [
        base64.b64decode(image["b64_json"]) for image in direct["data"]
    ]
    assert job["usage"] == direct["usage"]


def test_a_job_has_references(served: Any) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    references = [{"image": base64.b64encode(buffer.getvalue()).decode(), "caption": "a red square"}]
    job = finished(served, create(served, seed=7, references=references)["id"])
    assert job["request"]["references"] == [{"caption": "a red square", "weight": 1.0, "cut_out": False}]
    assert job["neighbors"] == [{"caption": "a red square"}]
    direct = served.rest.post("/v1/images/generations", json={**BODY, "seed": 7, "references": references}).json()
    assert httpx.get(job["data"][0]["url"]).content == base64.b64decode(direct["data"][0]["b64_json"])


def test_events_are_replayed_from_an_id(served: Any) -> None:
    job = create(served, n=2, partial_images=1)
    events = events_of(served, job["id"])
    ids = [number for number, _, _ in events]
    assert ids == sorted(set(ids))
    names = [name.removeprefix("job.") for _, name, _ in events]
    assert names == ["queued", "running", "neighbors", *(["progress"] * 2 + ["image"]) * 2, "completed"]
    assert [data["type"] for _, _, data in events] == [name for _, name, _ in events]
    assert sum("b64_json" in data for _, _, data in events) == 1
    for position, (number, _, _) in enumerate(events[:-1]):
        assert events_of(served, job["id"], after=number) == events[position + 1 :]
    last = served.rest.get(f"{URL}/{job['id']}/events", headers={"Last-Event-ID": str(ids[-1])})
    assert (last.status_code, last.text) == (204, "")


def test_jobs_are_listed_newest_first_in_pages(served: Any) -> None:
    ids = [create(served)["id"] for _ in range(5)]
    for job_id in ids:
        finished(served, job_id)
    page = served.rest.get(URL, params={"limit": 2}).json()
    assert [job["id"] for job in page["data"]] == [ids[4], ids[3]]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, ids[4], ids[3])
    page = served.rest.get(URL, params={"limit": 2, "after": page["last_id"], "status": "completed"}).json()
    assert [job["id"] for job in page["data"]] == [ids[2], ids[1]]
    assert served.rest.get(URL, params={"status": "failed", "limit": 1}).json()["data"] == []


def test_a_failed_job_says_why(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # The job would wait for the retriever.
    monkeypatch.setattr("reimagen_generator.generation.service._OUTAGE_SHARE", 0.0)
    job = finished(served, create(served, retrieval={"k": 1})["id"])
    assert job["status"] == "failed"
    assert job["error"]["type"] == "unavailable_error"
    assert "reimagen-retriever serve" in job["error"]["message"]


def test_a_key_makes_one_job(served: Any) -> None:
    key = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    job = create(served, key)
    assert create(served, key)["id"] == job["id"]
    assert create(served, {"Idempotency-Key": key["Idempotency-Key"].strip('"')})["id"] == job["id"]
    other = served.rest.post(URL, json={**BODY, "n": 2}, headers=key)
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
    for bad in ("", "a b", "x" * 256):
        refused = served.rest.post(URL, json=BODY, headers={"Idempotency-Key": bad})
        assert (refused.status_code, refused.json()["field"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"stream": True}, "stream"), ({"size": "17x17"}, "size"), ({"model": "x"}, "model"), ({"colour": 1}, "colour")],
)
def test_bad_input_is_named_before_a_job_is_made(served: Any, fields: dict[str, Any], field: str) -> None:
    before = served.rest.get(URL).json()["first_id"]
    refused = served.rest.post(URL, json={**BODY, **fields})
    assert (refused.status_code, refused.json()["field"]) == (400, field)
    assert served.rest.get(URL).json()["first_id"] == before


def test_an_unknown_job_is_not_found(served: Any) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/images/0")):
        assert served.rest.request(method, f"{URL}/none{path}").status_code == 404
    assert served.rest.get(URL, params={"after": "none"}).status_code == 404
    job = create(served)
    finished(served, job["id"])
    assert served.rest.get(f"{URL}/{job['id']}/images/1").status_code == 404


def test_a_finished_job_is_not_cancelled(served: Any) -> None:
    job = finished(served, create(served)["id"])
    assert served.rest.delete(f"{URL}/{job['id']}").json() == job


@pytest.fixture
def nothing_left(endless: Any) -> Iterator[None]:
    yield
    for job in endless.rest.get(URL, params={"limit": 100}).json()["data"]:
        endless.rest.delete(f"{URL}/{job['id']}")


@pytest.mark.usefixtures("nothing_left")
def test_jobs_wait_in_order_and_are_cancelled(endless: Any) -> None:
    running, *waiting = [create(endless) for _ in range(3)]
    with endless.rest.stream("GET", f"{URL}/{running['id']}/events") as response:
        assert any(line == "event: job.progress" for line in response.iter_lines())
    listed = endless.rest.get(URL).json()["data"]
    assert [(job["status"], job.get("position")) for job in listed[:3]] == [
        ("queued", 2),
        ("queued", 1),
        ("running", None),
    ]
    assert listed[2]["progress"]["steps"] == 50_000
    assert endless.rest.delete(f"{URL}/{waiting[0]['id']}").json()["status"] == "cancelled"
    assert endless.rest.get(f"{URL}/{waiting[1]['id']}").json()["position"] == 1
    assert endless.rest.delete(f"{URL}/{running['id']}").json()["status"] == "cancelled"
    with endless.rest.stream("GET", f"{URL}/{waiting[1]['id']}/events") as response:
        assert any(line == "event: job.running" for line in response.iter_lines())
    assert [name for _, name, _ in events_of(endless, running["id"])][-1] == "job.cancelled"


@pytest.mark.usefixtures("nothing_left")
def test_a_job_waits_for_a_place_in_the_engine(endless: Any) -> None:
    with contextlib.ExitStack() as stack:
        body = {**BODY, "stream": True}
        # The lines are kept, because a collected iterator closes its stream.
        streams = [
            stack.enter_context(endless.rest.stream("POST", "/v1/images/generations", json=body)).iter_lines()
            for _ in range(2)
        ]
        assert [next(lines) for lines in streams] == ["event: image_generation.neighbors"] * 2
        job = create(endless)
        wait_until(lambda: waiting_requests() == 1)
        waiting = endless.rest.get(f"{URL}/{job['id']}").json()
        assert (waiting["status"], waiting["position"]) == ("queued", 1)
    with endless.rest.stream("GET", f"{URL}/{job['id']}/events") as response:
        assert any(line == "event: job.running" for line in response.iter_lines())


@pytest.mark.usefixtures("nothing_left")
def test_too_many_jobs_are_refused_at_once(endless: Any) -> None:
    for _ in range(4):
        create(endless)
    refused = endless.rest.post(URL, json=BODY)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "overloaded_error"


def test_jobs_and_files_of_others_are_not_found(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    file = served.rest.post("/v1/files", files={"file": buffer.getvalue()}, data={"purpose": "vision"}).json()
    job = finished(served, create(served)["id"])
    for module in ("jobs", "uploads", "drawing"):
        monkeypatch.setattr(f"reimagen_generator.api.http.{module}.current_owner", lambda: "other")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/images/0")):
        assert served.rest.request(method, f"{URL}/{job['id']}{path}").status_code == 404
    assert served.rest.get(URL).json()["data"] == []
    assert served.rest.get(f"/v1/files/{file['id']}").status_code == 404
    references = [{"id": file["id"], "caption": "x"}]
    for path in (URL, "/v1/images/generations"):
        refused = served.rest.post(path, json={**BODY, "references": references})
        assert refused.json()["field"] == "references.0.id"


def test_metrics_count_jobs(served: Any) -> None:
    finished(served, create(served)["id"])
    metrics = served.rest.get("/metrics").text
    assert 'reimagen_generator_jobs_total{outcome="completed"}' in metrics
    assert "reimagen_generator_jobs_unfinished" in metrics
