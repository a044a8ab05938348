"""Health and metrics of a process group: several processes that serve on the same ports.

A request to a shared port reaches any one of the processes. Therefore each process also serves its own health and
metrics at a Unix socket in a shared folder, and the process that receives a request queries all of them.
"""

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from reimagen_common.operations import Health

_SECONDS: Final = 2.0

_Answer = TypeVar("_Answer")


class ProcessGroup:
    """The processes of the group, including this one.

    Args:
        folder: The folder of their sockets.
        number: The number of this process, from 0.
        count: The number of processes.
    """

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._folder = folder
        self._number = number
        self._count = count

    def listen(self) -> socket.socket:
        """Return the socket at which this process serves its own health and metrics."""
        path = self._path(self._number)
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        return listening

    def health(self) -> Health:
        """Return the health of the service: degraded unless all processes are ready."""
        answers = self._ask("/healthz", lambda body: Health.model_validate_json(body))
        states = Counter("silent" if answer is None else answer.status for answer in answers)
        reasons = dict.fromkeys(reason for answer in answers if answer for reason in answer.reasons)
        absent = ", ".join(f"{states[state]} {state}" for state in ("starting", "stopping", "silent") if states[state])
        if absent:
            reasons[f"of {self._count} processes: {absent}"] = None
        if not states["ready"] and not states["degraded"]:
            return Health(status="stopping" if states["stopping"] else "starting", reasons=list(reasons))
        return Health(status="degraded" if reasons else "ready", reasons=list(reasons))

    def metrics(self) -> bytes:
        """Return the metrics of all processes, each with the label `process`."""
        registry = CollectorRegistry()
        registry.register(_Merged(self._ask("/metrics", bytes.decode)))
        return generate_latest(registry)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.sock"

    def _ask(self, path: str, read: Callable[[bytes], _Answer]) -> Sequence[_Answer | None]:
        """Return the answer of each process, None for a process that does not answer."""

        def ask(number: int) -> _Answer | None:
            connection = _UnixConnection(self._path(number))
            try:
                connection.request("GET", path)
                return read(connection.getresponse().read())
            except (OSError, HTTPException):
                return None
            finally:
                connection.close()

        with ThreadPoolExecutor(self._count) as pool:
            return list(pool.map(ask, range(self._count)))


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


class _Merged(Collector):
    def __init__(self, texts: Sequence[str | None]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for number, text in enumerate(self._texts):
            for family in text_string_to_metric_families(text or ""):
                metric = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    metric.add_sample(sample.name, {**sample.labels, "process": str(number)}, sample.value)
        return merged.values()
