"""The connection between the hosts of a serving group."""

import queue
import socket

import pytest

from reimagen_generator.parallel import group
from reimagen_generator.parallel.group import LostHost, Peer, receive_frame, send_frame
from tests.waiting import SECONDS


def connected() -> tuple[Peer, socket.socket, "queue.SimpleQueue[LostHost]"]:
    own, other = socket.socketpair()
    lost: queue.SimpleQueue[LostHost] = queue.SimpleQueue()
    return Peer(own, "process 3", lost.put), other, lost


def test_frames_arrive_whole_and_in_order() -> None:
    peer, other, _ = connected()
    with other:
        frames = [b"first", bytes(5_000_000), b"last"]
        for frame in frames:
            send_frame(other, frame)
        assert [peer.receive() for _ in frames] == frames
        peer.send(b"answer")
        assert receive_frame(other) == b"answer"
        peer.close()


def test_a_host_that_ends_is_lost_and_every_wait_ends() -> None:
    peer, other, lost = connected()
    send_frame(other, b"done")
    other.close()
    assert lost.get(timeout=SECONDS).message == "process 3 of this service has ended; the service starts again"
    assert peer.receive() == b"done"
    for _ in range(2):
        with pytest.raises(LostHost, match="has ended"):
            peer.receive()
    peer.close()


def test_a_host_without_signs_of_life_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "_LOST_SECONDS", 0.05)
    peer, other, lost = connected()
    with other:
        assert "has not answered" in lost.get(timeout=SECONDS).message
    peer.close()


def test_signs_of_life_are_sent_and_are_no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "_ALIVE_SECONDS", 0.01)
    peer, other, _ = connected()
    with other:
        assert [receive_frame(other) for _ in range(3)] == [b""] * 3
        send_frame(other, b"")
        send_frame(other, b"order")
        assert peer.receive() == b"order"
        peer.close()
