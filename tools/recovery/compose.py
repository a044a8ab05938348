"""Start Docker Compose with API keys and TLS, kill its containers under load, and check that all recovers.

`make compose-recovery` runs it, as root on a machine with Docker and Compose, and takes the ports 8000, 8001, 50051 and
50052. It builds the images from this checkout and serves the knowledge base of `make kb`. Containers and volumes are
removed at the end. The exit status is 1 if a check failed.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx

from benchmarks.shared.machine import machine
from reimagen_client import Client, JobFailed, RetryPolicy
from tools.recovery.load import Load
from tools.recovery.project import SERVICES, Access, Project, make_access, wait_until

GENERATOR: Final = "https://localhost:8000"
RETRIEVER: Final = "https://localhost:8001"
CLIENTS: Final = 2
JOBS: Final = 6
SIZE: Final = 256
ANSWERS: Final = 5
"""Answers to await before and after a kill."""
RETRY: Final = RetryPolicy(retries=8, first_seconds=1.5, longest_seconds=60)
"""For longer than a generator takes to start."""
SECONDS: Final = 300.0


def main() -> int:
    """Run all checks, print one line for each, and return the exit status."""
    print(f"Compose on {machine()}")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="reimagen-access-") as folder:
        access = make_access(Path(folder))
        project = Project(access)
        try:
            for passed, line in checks(project, access):
                print(f"{'ok    ' if passed else 'FAILED'}  {line}", flush=True)
                failed += not passed
        finally:
            if failed:
                project.run("logs", "--no-color", "--tail=100")
            project.run("down", "--volumes", "--timeout", "40")
    return 1 if failed else 0


def checks(project: Project, access: Access) -> Iterator[tuple[bool, str]]:
    """Yield whether each check passed, and a line that says what was checked and seen."""
    start = time.monotonic()
    project.run("build")
    yield True, f"images built in {time.monotonic() - start:.0f} s"
    start = time.monotonic()
    project.run("up", "--detach")
    project.wait_healthy()
    yield True, f"all healthy {time.monotonic() - start:.0f} s after the first start, compiling included"
    yield from access_checks(access)

    def connect() -> Client:
        return Client(f"{GENERATOR}/v1", access.keys["client"], timeout=SECONDS, retry=RETRY, verify=access.trust())

    with connect() as client:
        image = client.generate("a red panda", size=SIZE).images[0].content
        for service in SERVICES:
            yield from kill_checks(project, service, connect)
        yield from volume_checks(project, client, image)


def access_checks(access: Access) -> Iterator[tuple[bool, str]]:
    """Check what is answered with keys and without, over TLS and without it."""
    body = {"prompt": "a red panda in the snow", "size": f"{SIZE}x{SIZE}", "response_format": "b64_json"}
    with httpx.Client(verify=access.trust(), timeout=SECONDS) as http:

        def status(method: str, url: str, name: str | None) -> int:
            headers = {} if name is None else {"Authorization": f"Bearer {access.keys.get(name, 'unknown')}"}
            return http.request(method, url, headers=headers, json=body if method == "POST" else None).status_code

        generations, searching = f"{GENERATOR}/v1/images/generations", f"{RETRIEVER}/v1/search?query=a+kea&k=1"
        for what, method, url, name, expected in (
            ("the page", "GET", f"{GENERATOR}/", None, 200),
            ("drawing without a key", "POST", generations, None, 401),
            ("drawing with an unknown key", "POST", generations, "unknown", 401),
            ("drawing with a key that may only read", "POST", generations, "reader", 403),
            ("drawing with a key", "POST", generations, "client", 200),
            ("searching without a key", "GET", searching, None, 401),
            ("searching with a key", "GET", searching, "reader", 200),
        ):
            found = status(method, url, name)
            yield found == expected, f"{what}: {found}"
    for url in (GENERATOR, RETRIEVER):
        try:
            answer = str(httpx.get(url.replace("https", "http") + "/livez").status_code)
        except httpx.TransportError:
            answer = "no answer"
        yield answer == "no answer", f"{url.replace('https', 'http')} without TLS: {answer}"


def kill_checks(project: Project, service: str, connect: Callable[[], Client]) -> Iterator[tuple[bool, str]]:
    """Kill a service while clients draw and jobs wait, and check that all are served."""
    with connect() as client, Load(connect, CLIENTS, SIZE) as load:
        wait_until(lambda: load.answered() >= ANSWERS, f"{ANSWERS} answers before {service} is killed")
        jobs = [client.jobs.create(f"a snail {number}", size=SIZE).id for number in range(JOBS)]
        before = load.take()
        start = time.monotonic()
        restarts = project.kill(service)
        project.wait_restarted(service, restarts)
        healthy = time.monotonic() - start
        wait_until(lambda: load.answered() >= ANSWERS, f"{ANSWERS} answers after {service} was killed")
        completed = [_completes(client, job) for job in jobs]
        after = load.take()
        errors = [*before.errors, *after.errors]
        line = (
            f"{service} killed: healthy again after {healthy:.0f} s; {after.answered} requests answered since, "
            f"{len(errors)} failed, the longest took {after.longest_seconds:.0f} s; "
            f"{sum(completed)} of {JOBS} jobs completed"
        )
        yield not errors and all(completed), line
        for error in errors:
            yield False, error


def _completes(client: Client, job: str) -> bool:
    try:
        client.jobs.wait(job)
    except JobFailed:
        return False
    return True


def volume_checks(project: Project, client: Client, image: bytes) -> Iterator[tuple[bool, str]]:
    """Remove the containers while jobs wait, start new ones, and check what they find on their volumes."""
    done = client.jobs.wait(client.jobs.create("a cactus", size=SIZE).id)
    drawn = client.jobs.image(done.id)
    queued = [client.jobs.create(f"a lighthouse {number}", size=SIZE).id for number in range(JOBS)]
    project.run("down", "--timeout", "40")
    start = time.monotonic()
    project.run("up", "--detach")
    project.wait_healthy()
    yield True, f"containers removed and made anew: healthy after {time.monotonic() - start:.0f} s"
    yield client.jobs.image(done.id) == drawn, "the image of a job that ended before is the same"
    completed = [_completes(client, job) for job in queued]
    yield all(completed), f"{sum(completed)} of {JOBS} jobs that were queued before completed"
    verification = client.verify(image)
    known = verification.tampered is False and verification.generation is not None
    yield known, f"an image drawn before: signature {verification.signature}, tampered {verification.tampered}"


if __name__ == "__main__":
    sys.exit(main())
