"""A service that is killed or stopped, or whose Redis is killed, loses no job."""

import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from reimagen_common.local_redis import LocalRedis
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from tests.waiting import LoggedProcess, wait_until

SECONDS = 240
BODY = {"prompt": "a red panda", "retrieval": {"k": 0}, "size": "16x16"}
LONG, SHORT = 1_000, 2


@contextmanager
def served(folder: Path, store: Mapping[str, str], *, steps: int) -> Iterator[tuple[LoggedProcess, httpx.Client]]:
    """A service whose cascade takes that many steps."""
    config = folder / "weights" / "cascade.json"
    config.write_text(re.sub(r'"steps": \d+', f'"steps": {steps}', config.read_text()))
    command = [str(Path(sys.executable).with_name("reimagen-generator")), "serve", "--weights", str(folder / "weights")]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    environment = {
        "REIMAGEN_GENERATOR_STOP_SECONDS": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with LoggedProcess(command, {**environment, **store}) as process:
        port = process.wait_for_line(r"msg=ready .*http_port=(\d+)")[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client:
            yield process, client


def until(client: httpx.Client, job_id: str, name: str, after: int = 0) -> int:
    """Watch a job until an event, and return the event's id."""
    path, number = f"/v1/jobs/{job_id}/events", after
    with client.stream("GET", path, headers={"Last-Event-ID": str(after)}) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line.startswith("id: "):
                number = int(line.removeprefix("id: "))
            if line == f"event: {name}":
                return number
    raise AssertionError(f"the events ended before {name}")


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the setting of a store."""
    if request.param == "sqlite":
        return {"REIMAGEN_GENERATOR_JOBS": str(tmp_path / "jobs")}
    return {"REIMAGEN_GENERATOR_JOBS_REDIS_URL": request.getfixturevalue("empty_redis").url}


def save(folder: Path) -> None:
    stage = TINY.stages[0].model_copy(update={"steps": LONG})
    Cascade.random(TINY.model_copy(update={"stages": (stage,)}), seed=0).save(folder / "weights")


def test_no_job_is_lost(tmp_path: Path, store: dict[str, str]) -> None:
    save(tmp_path)
    with served(tmp_path, store, steps=LONG) as (process, client):
        jobs: list[dict[str, Any]] = [client.post("/v1/jobs", json={**BODY, "n": n}).json() for n in (10, 2, 1)]
        last = until(client, jobs[0]["id"], "job.progress")
        assert client.delete(f"/v1/jobs/{jobs[2]['id']}").json()["status"] == "cancelled"
        process.kill()
    with served(tmp_path, store, steps=LONG) as (process, client):
        last = until(client, jobs[0]["id"], "job.queued", after=last)
        last = until(client, jobs[0]["id"], "job.progress", after=last)
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(SECONDS) == 0
    with served(tmp_path, store, steps=SHORT) as (_, client):
        for job in jobs[:2]:
            until(client, job["id"], "job.completed", after=last if job is jobs[0] else 0)
            done = client.get(f"/v1/jobs/{job['id']}").json()
            direct = client.post("/v1/images/generations", json=done["request"] | {"response_format": "url"}).json()
            assert done["request"] == job["request"]
            assert [client.get(image["url"]).content for image in done["data"]] == [
                client.get(image["url"]).content for image in direct["data"]
            ]
        assert client.get(f"/v1/jobs/{jobs[2]['id']}").json()["status"] == "cancelled"


def test_a_job_goes_on_after_its_redis_was_killed(tmp_path: Path, empty_redis: LocalRedis) -> None:
    save(tmp_path)
    with served(tmp_path, {"REIMAGEN_GENERATOR_JOBS_REDIS_URL": empty_redis.url}, steps=LONG) as (process, client):
        job = client.post("/v1/jobs", json=BODY).json()["id"]
        last = until(client, job, "job.progress")
        empty_redis.process.kill()
        empty_redis.process.wait()
        process.wait_for_line("the end of a job could not be stored")
        assert client.post("/v1/jobs", json=BODY).status_code == 503
        wait_until(lambda: "no jobs are served" in client.get("/healthz").text)
        empty_redis.start()
        last = until(client, job, "job.queued", after=last)
        wait_until(lambda: "no jobs are served" not in client.get("/healthz").text)
        until(client, job, "job.progress", after=last)
