"""Kill one of two retrievers and one of two generators behind HAProxy under load: `make replica-recovery`.

Each replica runs in a network namespace of its own. HAProxy, as Debian has it, balances the generators' REST and the
retrievers' gRPC by their health checks. It sends a request to another replica only if it could not connect. Requests
that a killed replica had in flight are repeated by those who sent them: `reimagen_client`, and the generators' client
of the retriever. The cascade is the tiny one, with random weights. The exit status is 1 if a request failed.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import httpx
from PIL import Image

from benchmarks.shared.machine import machine
from reimagen_client import Client, RetryPolicy
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from tests.waiting import LoggedProcess, wait_until
from tools.recovery.load import Load, Outcome
from tools.recovery.network import HERE, Machines, Running, enter_namespace

RETRIEVERS: Final = {"retriever-1": "10.213.0.11", "retriever-2": "10.213.0.12"}
GENERATORS: Final = {"generator-1": "10.213.0.21", "generator-2": "10.213.0.22"}
CLIENTS: Final = 4
SIZE: Final = 64
PAIRS: Final = ("a red fox", "a kea", "a snow leopard", "a blue robot", "a snail")
SECONDS: Final = 240.0
RETRY: Final = RetryPolicy(retries=2, first_seconds=0.5)
"""The client's default."""
HAPROXY: Final = f"""
defaults
  mode http
  retries 3
  option redispatch 1
  timeout connect 1s
  timeout client 300s
  timeout server 300s
  default-server inter 500ms fall 2 rise 1

frontend counts
  bind 127.0.0.1:8404
  stats enable
  stats uri /

frontend images
  bind {HERE}:8000
  default_backend generators

frontend searches
  bind {HERE}:50051 proto h2
  default_backend retrievers

backend generators
  option httpchk GET /readyz
  http-check send hdr Host {HERE}
GENERATORS

backend retrievers
  option httpchk GET /readyz
  http-check send hdr Host {HERE}
RETRIEVERS
"""


def configuration() -> str:
    """Return the configuration of HAProxy."""
    generators = [f"  server {name} {address}:8000 check" for name, address in GENERATORS.items()]
    # A retriever's health is on its HTTP port.
    retrievers = [
        f"  server {name} {address}:50051 proto h2 check port 8001 check-proto h1"
        for name, address in RETRIEVERS.items()
    ]
    return HAPROXY.replace("GENERATORS", "\n".join(generators)).replace("RETRIEVERS", "\n".join(retrievers))


def main() -> int:
    """Start everything, kill one replica of each kind under load, print what happened, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100, help="answers to await before and after each kill")
    answers: int = parser.parse_args().answers
    enter_namespace("tools.recovery.replicas", ["haproxy"])
    print(f"Two retrievers and two generators in network namespaces behind HAProxy, {CLIENTS} clients, on {machine()}")
    with tempfile.TemporaryDirectory(prefix="reimagen-replicas-") as folder, Running() as running:
        processes = start(Path(folder), running)
        failed = 0
        for passed, line in checks(processes, answers):
            print(f"{'ok    ' if passed else 'FAILED'}  {line}", flush=True)
            failed += not passed
    return 1 if failed else 0


def start(folder: Path, running: Running) -> dict[str, LoggedProcess]:
    """Start the replicas and HAProxy, and return the replicas' processes when all are ready.

    Raises:
        subprocess.CalledProcessError: The knowledge base cannot be built.
    """
    machines = Machines()
    Cascade.random(TINY, seed=0).save(folder / "weights")
    kb = build(folder)
    programs = Path(sys.executable).parent
    processes = {}
    for name, address in RETRIEVERS.items():
        machines.add(name, address)
        environment = {f"REIMAGEN_RETRIEVER_{key}": value for key, value in settings(address, "50051", "8001").items()}
        processes[name] = running.start(name, [programs / "reimagen-retriever", "serve", kb], environment)
    (folder / "haproxy.cfg").write_text(configuration())
    running.start(None, ["haproxy", "-db", "-f", folder / "haproxy.cfg"])
    for name, address in GENERATORS.items():
        machines.add(name, address)
        own = {
            "RETRIEVER": f"{HERE}:50051",
            "WEIGHTS": str(folder / "weights"),
            "COMPILE_CACHE": str(folder / "compiled"),
        }
        common = settings(address, "50052", "8000") | own
        environment = {f"REIMAGEN_GENERATOR_{key}": value for key, value in common.items()} | {"JAX_PLATFORMS": "cpu"}
        processes[name] = running.start(name, [programs / "reimagen-generator", "serve"], environment)
        # The second one reads the code that the first one compiled.
        processes[name].wait_for_line("msg=ready ")
    for name in RETRIEVERS:
        processes[name].wait_for_line("msg=ready ")
    wait_until(
        lambda: {row["svname"] for row in counts() if row["status"].startswith("UP")} >= processes.keys(), SECONDS
    )
    return processes


def settings(address: str, grpc: str, http: str) -> dict[str, str]:
    """Return the settings that both services have, without their prefix."""
    return {
        "GRPC": f"{address}:{grpc}",
        "HTTP": f"{address}:{http}",
        "ALLOW_ANONYMOUS": "true",
        "ALLOWED_HOSTS": HERE,
    }


def build(folder: Path) -> Path:
    """Build a knowledge base of a few pairs, and return its folder."""
    source = folder / "source"
    source.mkdir()
    for number, caption in enumerate(PAIRS):
        Image.new("RGB", (48, 48), (50 * number, 90, 200 - 40 * number)).save(source / f"{number}.png")
        (source / f"{number}.txt").write_text(caption)
    program = Path(sys.executable).with_name("reimagen-retriever")
    subprocess.run([program, "build", source, folder / "kb"], check=True, capture_output=True)
    return folder / "kb"


def checks(processes: dict[str, LoggedProcess], answers: int) -> Iterator[tuple[bool, str]]:
    """Yield whether each check passed, and a line that says what was seen."""
    with Load(lambda: Client(f"http://{HERE}:8000/v1", timeout=SECONDS, retry=RETRY), CLIENTS, SIZE) as load:
        wait_until(lambda: load.answered() >= answers, SECONDS)
        before = broken_requests()
        yield reported("all replicas run", load.take(), before)
        for name in (min(RETRIEVERS), min(GENERATORS)):
            if name in GENERATORS:  # a search is too short to be seen
                wait_until(lambda: int(counted(min(GENERATORS))["scur"]) > 0, SECONDS)
            handled = int(counted(name)["stot"])
            processes[name].popen.kill()
            processes[name].popen.wait()
            wait_until(lambda: load.answered() >= answers, SECONDS)
            now = broken_requests()
            what = f"{name} killed after {handled} requests of its own"
            yield reported(what, load.take(), {each: now[each] - before[each] for each in now})
            before = now


def broken_requests() -> dict[str, int]:
    """Return the number of requests to each kind of service that got no response, or an error of the server."""
    return {row["pxname"]: int(row["stot"]) - answered(row) for row in counts() if row["svname"] == "BACKEND"}


def answered(row: Mapping[str, str]) -> int:
    """Return the number of requests that were answered or still wait for a response."""
    return int(row["scur"]) + sum(int(row[f"hrsp_{status}"]) for status in ("2xx", "3xx", "4xx"))


def counted(server: str) -> dict[str, str]:
    """Return HAProxy's counts of a server."""
    (row,) = (row for row in counts() if row["svname"] == server)
    return row


def counts() -> list[dict[str, str]]:
    """Return HAProxy's counts of each server and backend."""
    table = httpx.get("http://127.0.0.1:8404/;csv").text.removeprefix("# ")
    return list(csv.DictReader(table.splitlines()))


def reported(what: str, outcome: Outcome, broken: Mapping[str, int]) -> tuple[bool, str]:
    """Return whether no request failed, and a line that says so."""
    line = (
        f"{what}: {outcome.answered} requests answered, {len(outcome.errors)} failed, the longest took "
        f"{outcome.longest_seconds:.1f} s; broken in flight and repeated: {broken['generators']} of the clients to the "
        f"generators, {broken['retrievers']} of the generators to the retrievers"
    )
    return not outcome.errors, "\n        ".join([line, *outcome.errors])


if __name__ == "__main__":
    sys.exit(main())
