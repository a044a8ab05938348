"""A device over several hosts: the leader sends each order to the followers, and all execute it in the same order.

A compiled function that runs on devices of several hosts must be started on each of them, in one order everywhere. Each
computation of the engine is an order, so the order of the orders suffices. They consist of what the host has: prompts,
references, random seeds and steps.
"""

import logging
import threading
from collections import deque
from typing import Final

import numpy as np
from jaxtyping import UInt8

from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.device import Device
from reimagen_generator.engine.orders import Order, decode, encode
from reimagen_generator.parallel.group import Follower, Leader

_DONE: Final = "done"

_logger = logging.getLogger(__name__)


class LeadingDevice(Device):
    """The device of process 0, which leads the devices of the others."""

    def __init__(self, cascade: Cascade, leader: Leader) -> None:
        """Create a device without images; see `Device`."""
        super().__init__(cascade)
        self._leader = leader
        self._ordering = threading.Lock()
        self._forgotten: deque[int] = deque()

    def forget(self, number: int) -> None:
        """Free what is kept of an image here; the followers do so before the next order."""
        super().forget(number)
        self._forgotten.append(number)

    def execute(self, order: Order) -> UInt8[np.ndarray, "..."] | None:
        """Execute an order on all hosts.

        Raises:
            LostHost: A host is lost, or does not agree.
        """
        with self._ordering:
            forgotten = [self._forgotten.popleft() for _ in range(len(self._forgotten))]
            self._leader.send(encode(order, forgotten))
            try:
                result = super().execute(order)
            except Exception as error:
                self._leader.confirm(_outcome(error))
                raise
            self._leader.confirm(_DONE)
            return result


def follow(cascade: Cascade, follower: Follower) -> None:
    """Execute the leader's orders until it dismisses this process.

    Raises:
        LostHost: The leader is lost.
    """
    device = Device(cascade)
    for frame in follower.frames():
        order, forgotten = decode(frame)
        for number in forgotten:
            device.forget(number)
        try:
            device.execute(order)
        except Exception as error:
            _logger.warning("an order failed", exc_info=error)
            follower.report(_outcome(error))
        else:
            follower.report(_DONE)


def _outcome(error: Exception) -> str:
    return type(error).__name__
