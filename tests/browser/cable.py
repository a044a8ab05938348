"""A connection that can be cut: it forwards bytes between clients and a server."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Self

_BYTES: Final = 65_536


class Cable:
    """A TCP proxy on a port of its own. As a context manager, it ends all connections at the end."""

    def __init__(self, address: str) -> None:
        """Forward to `host:port`."""
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._listening.close()

    def cut(self) -> None:
        """End all connections, and accept none until `mend`."""
        with self._lock:
            self._is_cut = True
            ended, self._open = self._open, set()
        for end in ended:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def mend(self) -> None:
        """Accept connections again."""
        with self._lock:
            self._is_cut = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # The listening socket is closed.
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    if self._is_cut:
                        client.close()
                        server.close()
                        continue
                    self._open |= {client, server}
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
