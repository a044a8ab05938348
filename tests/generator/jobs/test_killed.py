"""A service that is killed or stopped loses no job."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from tests.waiting import LoggedProcess

SECONDS = 240
BODY = {"prompt": "a red panda", "retrieval": {"k": 0}, "size": "16x16"}
LONG, SHORT = 1_000, 2


@contextmanager
def served(folder: Path, *, steps: int) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A service whose cascade takes that many steps."""
    config = folder / "weights" / "cascade.json"
    config.write_text(re.sub(r'"steps": \d+', f'"steps": {steps}', config.read_text()))
    command = [str(Path(sys.executable).with_name("reimagen-generator")), "serve", "--weights", str(folder / "weights")]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    environment = {
        "REIMAGEN_GENERATOR_JOBS": str(folder / "jobs"),
        "REIMAGEN_GENERATOR_STOP_SECONDS": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with LoggedProcess(command, environment) as process:
        port = process.wait_for_line(r"msg=ready .*http_port=(\d+)")[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client:
            yield process.popen, client


def until(client: httpx.Client, job_id: str, name: str, after: int = 0) -> int:
    """Watch a job until an event, and return the event's id."""
    path, number = f"/v1/jobs/{job_id}/events", after
    with client.stream("GET", path, headers={"Last-Event-ID": str(after)}) as response:
        for line in response.iter_lines():
            if line.startswith("id: "):
                number = int(line.removeprefix("id: "))
            if line == f"event: {name}":
                return number
    raise AssertionError(f"the events ended before {name}")


def test_no_job_is_lost(tmp_path: Path) -> None:
    stage = TINY.stages[0].model_copy(update={"steps": LONG})
    Cascade.random(TINY.model_copy(update={"stages": (stage,)}), seed=0).save(tmp_path / "weights")
    with served(tmp_path, steps=LONG) as (process, client):
        jobs: list[dict[str, Any]] = [client.post("/v1/jobs", json={**BODY, "n": n}).json() for n in (10, 2, 1)]
        last = until(client, jobs[0]["id"], "job.progress")
        assert client.delete(f"/v1/jobs/{jobs[2]['id']}").json()["status"] == "cancelled"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with served(tmp_path, steps=LONG) as (process, client):
        last = until(client, jobs[0]["id"], "job.queued", after=last)
        last = until(client, jobs[0]["id"], "job.progress", after=last)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    with served(tmp_path, steps=SHORT) as (process, client):
        for job in jobs[:2]:
            until(client, job["id"], "job.completed", after=last if job is jobs[0] else 0)
            done = client.get(f"/v1/jobs/{job['id']}").json()
            direct = client.post("/v1/images/generations", json=done["request"] | {"response_format": "url"}).json()
            assert done["request"] == job["request"]
            assert [client.get(image["url"]).content for image in done["data"]] == [
                client.get(image["url"]).content for image in direct["data"]
            ]
        assert client.get(f"/v1/jobs/{jobs[2]['id']}").json()["status"] == "cancelled"
