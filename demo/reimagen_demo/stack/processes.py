"""Services as child processes: each has a log, is polled until it is ready, and is always stopped."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reimagen_common.processes import stop_child

_STOP_SECONDS = 40.0
"""Longer than the time that the services take to finish running requests."""
_POLL_SECONDS = 0.1
_TAIL_LINES = 15


class ChildError(RuntimeError):
    """A service has ended or is not ready in time; the message ends with the tail of its log."""


class Child:
    """A command of this environment as a child process that writes to a log; a context manager that stops it."""

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start `arguments[0]`, a console script installed next to this interpreter, with extra environment."""
        self.name = arguments[0]
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sys.executable).with_name(self.name)), *arguments[1:]]
        with log.open("wb") as output:
            # In a separate session Ctrl-C does not reach the child, so that it is stopped after its callers.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=os.environ | dict(environment or {}),
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until the child is ready.

        Raises:
            ChildError: it has ended, or the time is up.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise ChildError(f"{self.name} is not ready after {seconds:.0f} seconds.\n{self._tail()}")
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Raise an error if the child has ended.

        Raises:
            ChildError: it has ended.
        """
        if self.process.poll() is not None:
            raise ChildError(f"{self.name} ended with status {self.process.returncode}.\n{self._tail()}")

    def stop(self) -> None:
        """Ask the child to end and wait; kill it if it does not end. Has no effect on a child that has ended."""
        stop_child(self.process, _STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f"The end of {os.path.relpath(self.log)}:", *(f"  {line}" for line in lines)])


def free_address(preferred_port: int) -> str:
    """Return host:port on this machine with the preferred port, or with any free port if that one is taken."""
    for port in (preferred_port, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return f"127.0.0.1:{probe.getsockname()[1]}"
    raise RuntimeError("no free port on 127.0.0.1")


def serving_grpc(address: str) -> bool:
    """Return whether gRPC's health service at the address reports SERVING."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=2
            )
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def ready_http(url: str) -> bool:
    """Return whether the service at the URL reports that it is ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=2).is_success
    except httpx.TransportError:
        return False
