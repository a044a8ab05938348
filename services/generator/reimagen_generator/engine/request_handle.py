"""Per-request deadline, cancellation and event queue."""

import contextvars
import queue
import time
import uuid

from reimagen_common.errors import DeadlineExceeded
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent


class Cancelled(Exception):
    """The client has gone or cancelled the request."""


class RequestHandle:
    """Per-request deadline, cancellation and event queue.

    Any thread may cancel it, at any time and more than once.
    """

    def __init__(self, *, timeout: float) -> None:
        """Start the clock.

        Args:
            timeout: Seconds until the deadline.
        """
        self.id = uuid.uuid4().hex
        # The engine's thread logs and traces its work as part of the request.
        self.context = contextvars.copy_context()
        self.queued_at = 0.0
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._cancelled = False
        self._events: queue.SimpleQueue[StepEvent | ImagesEvent | Exception] = queue.SimpleQueue()
        self._admission: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def remaining(self) -> float:
        """Return the seconds until the deadline, at least 0."""
        return max(0.0, self._deadline - time.monotonic())

    def cancel(self) -> None:
        """Cancel the request: `receive` raises at once, and the engine stops at its next step."""
        self._cancelled = True
        self.post(Cancelled())

    def restart(self) -> None:
        """Start the clock anew."""
        self._deadline = time.monotonic() + self._timeout

    def admit(self) -> None:
        """End `wait_for_admission`."""
        self._admission.put(None)

    def wait_for_admission(self) -> None:
        """Wait for `admit`, for any time.

        Raises:
            Cancelled: the client has gone.
            Exception: the error that was posted.
        """
        error = self._admission.get()
        if error is not None:
            raise error

    def check(self) -> None:
        """Raise an error if the request is cancelled or past its deadline.

        Raises:
            Cancelled: the client has gone.
            DeadlineExceeded: the deadline has passed.
        """
        if self._cancelled:
            raise Cancelled
        if self.remaining() == 0:
            raise self._deadline_exceeded()

    def post(self, event: StepEvent | ImagesEvent | Exception) -> None:
        """Queue an event, or the error that ends the request."""
        self._events.put(event)
        if isinstance(event, Exception):
            self._admission.put(event)

    def receive(self) -> StepEvent | ImagesEvent:
        """Wait for the next event.

        Raises:
            Cancelled: the client has gone.
            DeadlineExceeded: the deadline has passed.
            Exception: the error that was posted as the end of the request.
        """
        try:
            event = self._events.get(timeout=self.remaining())
        except queue.Empty:
            raise self._deadline_exceeded() from None
        if isinstance(event, Exception):
            raise event
        return event

    def pause(self, seconds: float) -> None:
        """Wait while no event is expected.

        Raises:
            Cancelled: the client has gone.
            DeadlineExceeded: the deadline passes before the wait is over.
            Exception: the error that was posted as the end of the request.
        """
        try:
            event = self._events.get(timeout=min(seconds, self.remaining()))
        except queue.Empty:
            self.check()
            return
        if isinstance(event, Exception):
            raise event
        raise TypeError(f"expected no event, got {event!r}")

    def _deadline_exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the images were not finished within {self._timeout:.0f} seconds")
