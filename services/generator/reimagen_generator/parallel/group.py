"""The connection between the hosts of a serving group: orders from the leader, outcomes from the followers.

JAX connects the hosts for what they compute together. It cannot be used for orders: a host that waits in a collective
does not notice for minutes that another one has died, and an idle group would wait in one. So the leader also has a TCP
connection to each follower. Its port and a secret are distributed over JAX, so only hosts of the group can connect.
Both sides send a sign of life every two seconds, and give the other side up after eight without one.
"""

import contextlib
import hmac
import json
import logging
import queue
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import jax
import numpy as np
from jax.experimental import multihost_utils

from reimagen_common.addresses import split_address
from reimagen_common.errors import InvalidArgument, Unavailable

_ALIVE_SECONDS: Final = 2.0
_LOST_SECONDS: Final = 8.0
_JOIN_SECONDS: Final = 60.0
_LENGTH_BYTES: Final = 8
# A frame without content is a sign of life.
_ALIVE: Final = b""
_END: Final = b"end"
_MEETING_BYTES: Final = 512

_logger = logging.getLogger(__name__)


class LostHost(Unavailable):
    """A host of the group does not answer, or has computed something else, so the group must start again."""


class Peer:
    """Another host of the group. Frames arrive in order; a lost host ends all waits."""

    def __init__(self, connection: socket.socket, name: str, lost: Callable[[LostHost], None]) -> None:
        """Begin to send signs of life, and to expect them.

        Args:
            connection: The connection to the host.
            name: Name of the host in messages.
            lost: Called once, on another thread, when the host is lost.
        """
        self.name = name
        self._connection = connection
        self._lost = lost
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self._received: queue.SimpleQueue[bytes | LostHost] = queue.SimpleQueue()
        connection.settimeout(_LOST_SECONDS)
        for work in (self._read, self._show_life):
            threading.Thread(target=work, name=f"group-{name}", daemon=True).start()

    def send(self, frame: bytes) -> None:
        """Send a frame. If the host is lost, `receive` raises the error."""
        with self._sending, contextlib.suppress(OSError):
            send_frame(self._connection, frame)

    def receive(self) -> bytes:
        """Wait for the next frame.

        Raises:
            LostHost: The host is lost.
        """
        received = self._received.get()
        if isinstance(received, LostHost):
            self._received.put(received)
            raise received
        return received

    def close(self) -> None:
        """End the connection on purpose."""
        self._closed.set()
        self._connection.close()

    def _read(self) -> None:
        try:
            while True:
                frame = receive_frame(self._connection)
                if frame == _END:
                    self._closed.set()
                if frame != _ALIVE:
                    self._received.put(frame)
        except OSError as error:
            if self._closed.is_set():
                return
            reason = "has not answered for 8 seconds" if isinstance(error, TimeoutError) else "has ended"
            found = LostHost(f"{self.name} of this service {reason}; the service starts again", retry_after=30)
            self._received.put(found)
            self._lost(found)

    def _show_life(self) -> None:
        while not self._closed.wait(_ALIVE_SECONDS):
            self.send(_ALIVE)


class Leader:
    """The connections of process 0 to all others."""

    def __init__(self, coordinator: str, identity: str) -> None:
        """Wait for all followers.

        Args:
            coordinator: host:port of process 0, or auto; followers use its host.
            identity: What must be the same on all hosts.

        Raises:
            InvalidArgument: A follower has another identity.
            LostHost: A follower does not connect within a minute.
        """
        secret = secrets.token_hex(16)
        host = socket.gethostbyname(socket.gethostname()) if coordinator == "auto" else split_address(coordinator)[0]
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        self._losses: queue.SimpleQueue[LostHost] = queue.SimpleQueue()
        self._peers: list[Peer] = []
        with socket.create_server(("", 0), family=family, dualstack_ipv6=dual) as listening:
            listening.settimeout(_JOIN_SECONDS)
            _broadcast({"host": host, "port": listening.getsockname()[1], "secret": secret})
            while len(self._peers) < jax.process_count() - 1:
                try:
                    connection, address = listening.accept()
                    connection.settimeout(_JOIN_SECONDS)
                    hello = json.loads(receive_frame(connection))
                    known = hmac.compare_digest(str(hello["secret"]), secret)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise LostHost(f"not all hosts of this service have connected: {error}", retry_after=30) from error
                if not known:
                    _logger.warning("a stranger has connected", extra={"address": address[0]})
                    connection.close()
                    continue
                name = f"process {hello['process']}"
                if hello["identity"] != identity:
                    raise InvalidArgument(
                        f"{name} has another cascade or another version than process 0: give all processes the same "
                        f"image and weights (process 0: {identity}; {name}: {hello['identity']})",
                        field="weights",
                    )
                self._peers.append(Peer(connection, name, self._losses.put))

    def send(self, frame: bytes) -> None:
        """Send a frame to all followers."""
        for peer in self._peers:
            peer.send(frame)

    def confirm(self, outcome: str) -> None:
        """Wait for the outcome of each follower.

        Raises:
            LostHost: A follower is lost, or has another outcome than the leader, whose `outcome` is given.
        """
        for peer in self._peers:
            found = peer.receive().decode()
            if found != outcome:
                error = LostHost(
                    f"{peer.name} of this service has another outcome ({found}) than process 0 ({outcome}); "
                    "the service starts again",
                    retry_after=30,
                )
                self._losses.put(error)
                raise error

    def wait_for_loss(self) -> LostHost:
        """Wait until a follower is lost, and return the error for requests."""
        return self._losses.get()

    def dismiss(self) -> None:
        """End the followers."""
        self.send(_END)
        for peer in self._peers:
            peer.close()


class Follower:
    """The connection of another process to process 0."""

    def __init__(self, identity: str) -> None:
        """Connect to the leader.

        Args:
            identity: What must be the same on all hosts.
        """
        self._losses: queue.SimpleQueue[LostHost] = queue.SimpleQueue()
        meeting = _broadcast(None)
        connection = socket.create_connection((meeting["host"], meeting["port"]), timeout=_JOIN_SECONDS)
        hello = {"secret": meeting["secret"], "process": jax.process_index(), "identity": identity}
        send_frame(connection, json.dumps(hello).encode())
        self._peer = Peer(connection, "process 0", self._losses.put)

    def frames(self) -> Iterator[bytes]:
        """Yield what the leader sends until it dismisses this process.

        Raises:
            LostHost: The leader is lost.
        """
        while (frame := self._peer.receive()) != _END:
            yield frame
        self._peer.close()

    def wait_for_loss(self) -> LostHost:
        """Wait until the leader is lost, and return the reason."""
        return self._losses.get()

    def report(self, outcome: str) -> None:
        """Send the outcome of a frame."""
        self._peer.send(outcome.encode())


def send_frame(connection: socket.socket, frame: bytes) -> None:
    """Send bytes with their length before them."""
    connection.sendall(len(frame).to_bytes(_LENGTH_BYTES) + frame)


def receive_frame(connection: socket.socket) -> bytes:
    """Receive what `send_frame` has sent.

    Raises:
        OSError: The connection has ended, or its time limit is over.
    """
    return _receive(connection, int.from_bytes(_receive(connection, _LENGTH_BYTES)))


def _receive(connection: socket.socket, length: int) -> bytes:
    received = bytearray(length)
    view = memoryview(received)
    while len(view):
        count = connection.recv_into(view)
        if not count:
            raise ConnectionResetError("the connection has ended")
        view = view[count:]
    return bytes(received)


def _broadcast(message: Any) -> Any:
    """Return on all hosts what process 0 passes."""
    encoded = json.dumps(message).encode().ljust(_MEETING_BYTES)
    shared = multihost_utils.broadcast_one_to_all(np.frombuffer(encoded, np.uint8))
    return json.loads(np.asarray(shared).astype(np.uint8).tobytes())
