"""Several processes of one retriever on the same ports: health, metrics, and restarts."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from tests.waiting import LoggedProcess, wait_until

PROGRAM = Path(sys.executable).with_name("reimagen-retriever")
SECONDS = 240
ADDRESSES = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")


@dataclass
class Served:
    """A running service of two processes."""

    logged: LoggedProcess
    address: str
    http: str

    @property
    def process(self) -> "subprocess.Popen[str]":
        """The supervisor."""
        return self.logged.popen

    def processes(self) -> list[int]:
        """Return the serving processes, by the port that they listen on."""
        port = int(self.http.rpartition(":")[2])
        return sorted(pid for pid in _children(self.process.pid) if port in _listened_on(pid))

    def health(self) -> dict[str, object]:
        answer: dict[str, object] = httpx.get(f"http://{self.http}/healthz").json()
        return answer


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _listened_on(pid: int) -> set[int]:
    with contextlib.suppress(OSError):
        links = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links}
    return set()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("workers") / "source"
    source.mkdir()
    Image.new("RGB", (8, 8), "teal").save(source / "kea.png")
    (source / "kea.txt").write_text("a kea")
    subprocess.run([PROGRAM, "build", source, source.parent / "kb"], check=True, capture_output=True)
    return source.parent / "kb"


@pytest.fixture(scope="module")
def served(base: Path) -> Iterator[Served]:
    with LoggedProcess([PROGRAM, "serve", base, *ADDRESSES, "--processes", "2"]) as process:
        ready = process.wait_for_line(r"service=retriever .*msg=ready grpc=(\S+) http=(\S+)")
        yield Served(process, ready[1], ready[2])


def search(served: Served) -> str:
    """Return the caption that a new connection finds, which reaches any of the processes."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(served.address, options=options) as channel:
        answer = RetrievalStub(channel).Search(pb.SearchRequest(query="kea"), timeout=SECONDS)
        return answer.neighbors[0].pair.caption


def calls_by_process(served: Served) -> dict[str, float]:
    text = httpx.get(f"http://{served.http}/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    calls = [sample for sample in samples if sample.name == "reimagen_grpc_call_seconds_count"]
    assert {sample.labels["process"] for sample in samples} == {"0", "1"}
    return {sample.labels["process"]: sample.value for sample in calls}


def test_both_processes_answer_and_metrics_include_both(served: Served) -> None:
    assert len(served.processes()) == 2
    for _ in range(40):
        assert search(served) == "a kea"
    for _ in range(5):
        assert served.health() == {"status": "ready", "reasons": []}
        calls = calls_by_process(served)
        assert set(calls) == {"0", "1"}
        assert sum(calls.values()) == 40
    found = httpx.get(f"http://{served.http}/v1/search", params={"query": "kea"}).json()
    assert found["neighbors"][0]["caption"] == "a kea"


def test_a_used_port_is_refused(served: Served, base: Path) -> None:
    address, http = ("--grpc", served.address), ("--http", served.http)
    for processes, (option, taken) in (("1", address), ("2", address), ("2", http)):
        command = [str(PROGRAM), "serve", str(base), *ADDRESSES, option, taken, "--processes", processes]
        refused = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
        assert refused.returncode == 2
        assert f"error: {option[2:]}: cannot listen on {taken}" in refused.stderr


def test_a_killed_process_is_restarted_and_no_search_fails(served: Served) -> None:
    first, second = served.processes()
    os.kill(first, signal.SIGKILL)
    # While it dies, its sockets accept connections, which the system then resets.
    wait_until(lambda: not Path(f"/proc/{first}").exists())
    while len(served.processes()) < 2:
        assert search(served) == "a kea"
    assert served.process.poll() is None
    served.logged.wait_for_line("a process died and is being restarted")
    wait_until(lambda: served.health()["status"] == "ready")
    assert second in served.processes()
    assert first not in served.processes()
    for _ in range(20):
        assert search(served) == "a kea"


def test_health_is_degraded_while_one_process_hangs(served: Served) -> None:
    asleep = served.processes()[0]
    os.kill(asleep, signal.SIGSTOP)
    reported = []

    def hear() -> bool:
        # The stopped process does not answer; the other one reports it.
        with contextlib.suppress(httpx.TimeoutException):
            reported.append(httpx.get(f"http://{served.http}/readyz", timeout=10).json())
        return bool(reported)

    try:
        wait_until(hear)
    finally:
        os.kill(asleep, signal.SIGCONT)
    assert reported[0] == {"status": "degraded", "reasons": ["of 2 processes: 1 silent"]}
    wait_until(lambda: served.health()["status"] == "ready")


def test_a_signal_stops_all_processes(served: Served) -> None:
    pids = served.processes()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(SECONDS) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_processes_end_with_a_killed_supervisor(base: Path, tmp_path: Path) -> None:
    with LoggedProcess([PROGRAM, "serve", base, *ADDRESSES, "--processes", "2"]) as process:
        process.wait_for_line("msg=ready", count=3)
        children = _children(process.popen.pid)
        assert len(children) >= 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_a_startup_error_is_one_sentence(tmp_path: Path) -> None:
    command = [str(PROGRAM), "serve", str(tmp_path), *ADDRESSES, "--processes", "2"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"error: {tmp_path} is not a complete knowledge base")
