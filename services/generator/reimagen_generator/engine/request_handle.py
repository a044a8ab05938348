"""One caller's wish, and how the engine reaches that caller."""

import contextvars
import queue
import time
import uuid
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from reimagen_common.errors import DeadlineExceeded


class Cancelled(Exception):
    """The caller no longer wants the answer."""


@dataclass(frozen=True)
class Step:
    """One step of one stage is done, for the image `index` and those that are drawn together with it."""

    index: int
    stage: int
    size: int
    step: int
    steps: int
    preview: UInt8[np.ndarray, "size size 3"] | None


@dataclass(frozen=True)
class Finished:
    """Images that are done, from the call's image `index` on."""

    index: int
    images: UInt8[np.ndarray, "some size size 3"]


class RequestHandle:
    """Until when the answer is wanted, whether it still is, and the mailbox that the answer comes through.

    Any thread may cancel it, at any time and more than once.
    """

    def __init__(self, *, timeout: float) -> None:
        """Start the clock: the call is worth nothing `timeout` seconds from now."""
        self.id = uuid.uuid4().hex
        # What the engine does for the call is logged and traced as a part of the request that began it.
        self.context = contextvars.copy_context()
        self.queued_at = 0.0
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._cancelled = False
        self._mailbox: queue.SimpleQueue[Step | Finished | Exception] = queue.SimpleQueue()

    def remaining(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self._deadline - time.monotonic())

    def cancel(self) -> None:
        """Tell both sides to stop: whoever waits for an event wakes at once, the engine at its next step."""
        self._cancelled = True
        self.post(Cancelled())

    def check(self) -> None:
        """Return if the answer is still wanted.

        Raises:
            Cancelled: the caller has gone.
            DeadlineExceeded: its time is up.
        """
        if self._cancelled:
            raise Cancelled
        if self.remaining() == 0:
            raise self._deadline_exceeded()

    def post(self, event: Step | Finished | Exception) -> None:
        """Put an event, or the error that ends the call, into the mailbox."""
        self._mailbox.put(event)

    def receive(self) -> Step | Finished:
        """Wait for the next event.

        Raises:
            Cancelled: the caller has gone.
            DeadlineExceeded: its time is up.
            Exception: whatever was posted as the end of the call.
        """
        try:
            event = self._mailbox.get(timeout=self.remaining())
        except queue.Empty:
            raise self._deadline_exceeded() from None
        if isinstance(event, Exception):
            raise event
        return event

    def _deadline_exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the images were not finished within {self._timeout:.0f} seconds")
