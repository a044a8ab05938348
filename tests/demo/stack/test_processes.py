import socket
import sys
from pathlib import Path

import pytest

from reimagen_common.grpc_server import GrpcServer
from reimagen_demo.stack.processes import Child, ChildError, free_address, ready_http, serving_grpc

SECONDS = 20


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of console scripts beside an interpreter, with one that runs given code."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "run").write_text(f'#!/bin/sh\nexec {sys.executable} -u -c "$1"\n')
    (folder / "run").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return folder


def test_a_child_that_ends_is_reported_with_the_end_of_its_log(script: Path, tmp_path: Path) -> None:
    code = "import sys; print(*range(100), sep='\\n'); print('the port is taken'); sys.exit(3)"
    with (
        Child(["run", code], tmp_path / "log") as child,
        pytest.raises(ChildError, match=r"(?s)run ended with status 3.*\n  99\n  the port is taken$"),
    ):
        child.wait_until(lambda: False, SECONDS)


def test_a_child_that_is_never_ready_is_reported(script: Path, tmp_path: Path) -> None:
    with (
        Child(["run", "import threading; threading.Event().wait()"], tmp_path / "log") as child,
        pytest.raises(ChildError, match="not ready after 1 seconds"),
    ):
        child.wait_until(lambda: False, 1)
    assert child.process.returncode is not None


def test_a_child_is_stopped_gracefully_even_after_an_error(script: Path, tmp_path: Path) -> None:
    code = (
        "import signal, sys, threading\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('drained'), sys.exit(0)))\n"
        "print('up')\n"
        "threading.Event().wait()"
    )
    log = tmp_path / "log"
    child = Child(["run", code], log)

    def interrupted() -> None:
        with child:
            child.wait_until(lambda: "up" in log.read_text(), SECONDS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert child.process.returncode == 0
    assert "drained" in log.read_text()


def test_a_port_in_use_is_replaced_by_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_address(port) != f"127.0.0.1:{port}"
    assert free_address(port) == f"127.0.0.1:{port}"


def test_serving_follows_the_health_service() -> None:
    server = GrpcServer(address="127.0.0.1:0", workers=1, max_message_bytes=1024)
    address = f"127.0.0.1:{server.port}"
    server.start()
    try:
        assert not serving_grpc(address)
        server.set_serving(True)
        assert serving_grpc(address)
    finally:
        server.stop(0)
    assert not serving_grpc(address)


def test_a_missing_server_is_not_ready() -> None:
    address = free_address(0)
    assert not ready_http(f"http://{address}")
    assert not serving_grpc(address)
