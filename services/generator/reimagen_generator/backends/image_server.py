"""The backend that lets an image server draw, which speaks OpenAI's `images/edits` and `images/generations`."""

import io
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reimagen_common import tracing
from reimagen_common.access.caller import current_caller
from reimagen_common.errors import DeadlineExceeded, InvalidArgument, Overloaded, ReimagenError, Unavailable
from reimagen_generator import metrics
from reimagen_generator.backends.openai_images import OpenAIImages, Reference, Upstream
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.engine.engine import State
from reimagen_generator.engine.refusals import share_of_caller
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.engine.work import GenerationTask, Priority
from reimagen_generator.generation.backend import ModelDescription
from reimagen_generator.generation.request import GenerationRequest

UNSUPPORTED: Final = frozenset(
    {"seed", "guidance", "quality", "previews", "negative_prompt", "steps", "sampler", "stages"}
)
"""Fields of a request that OpenAI's API lacks, or whose meaning differs from server to server."""

_DEFAULT_K: Final = 2
_RETRY_SECONDS: Final = 2
_SHORTEST_PAUSE: Final = 0.5
# The search for neighbors, which a cancellation does not interrupt, takes no longer.
_CLOSING_SECONDS: Final = 15

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageAdmission:
    """A request's slot, held until the request ends."""

    ahead: int
    """Number of requests that were admitted before it and have not ended."""
    _client: OpenAIImages
    _handle: RequestHandle
    _size: int
    _priority: Priority

    def draw(self, task: GenerationTask) -> Iterator[ImagesEvent]:
        """Draw the images, and yield all of them together.

        The iterator raises:
            Overloaded: The server is overloaded. A request in the background waits and tries again instead.
            Cancelled, DeadlineExceeded, ReimagenError: See `OpenAIImages.draw`.
        """
        # Many servers read fewer formats than the service, and none needs a file's metadata.
        references = [Reference(_png(neighbor.image), "image/png", neighbor.caption) for neighbor in task.neighbors]
        outcome = "failed"
        try:
            with tracing.span("image server"):
                images = self._draw(task, references)
            outcome = "finished"
        except Cancelled:
            outcome = "cancelled"
            raise
        except DeadlineExceeded:
            outcome = "deadline_exceeded"
            raise
        except ReimagenError as error:
            _logger.warning("drawing failed", extra={"call": self._handle.id, "reason": error.message})
            raise
        finally:
            metrics.CALLS.labels(outcome).inc()
        metrics.IMAGES.labels(self._size).inc(len(images))
        yield ImagesEvent(images)

    def _draw(self, task: GenerationTask, references: Sequence[Reference]) -> UInt8[np.ndarray, "n size size 3"]:
        while True:
            try:
                return self._client.draw(self._handle, task.prompt, references, n=len(task.seeds), size=self._size)
            except Overloaded as error:
                if self._priority is not Priority.BACKGROUND:
                    raise
                self._handle.pause(max(error.retry_after or 0, _SHORTEST_PAUSE))


class ImageServerBackend:
    """A `Backend` whose admitted requests are sent to the image server at once, without a queue."""

    def __init__(self, upstream: Upstream, *, name: str, sizes: tuple[int, ...], maximum_k: int) -> None:
        """Create a backend that is not started.

        Args:
            upstream: The image server. Its concurrency is the number of slots.
            name: Name of the model.
            sizes: Sides of the images that it draws, in pixels.
            maximum_k: Maximum number of references that it accepts.
        """
        self.model = ModelDescription(
            name=name,
            sizes=tuple(sorted(sizes)),
            default_k=min(_DEFAULT_K, maximum_k),
            maximum_k=maximum_k,
            # The prompt names each neighbor, so an unrelated one would be drawn.
            relevant_only=True,
            unsupported=UNSUPPORTED,
        )
        self.slots = upstream.concurrency
        self._state = State.STARTING
        self._client = OpenAIImages(upstream)
        self._changed = threading.Condition()
        self._callers: dict[RequestHandle, str] = {}
        """The id of each admitted request's caller."""

    @property
    def state(self) -> State:
        """Whether requests are admitted now."""
        return self._state

    def start(self) -> None:
        """Admit requests. The server is not called: it may be down now and up later."""
        self._state = State.READY

    def stop(self, grace: float) -> None:
        """Stop admitting, wait up to `grace` seconds for admitted requests to end, then cancel the rest."""
        self._state = State.STOPPING
        with self._changed:
            if not self._changed.wait_for(lambda: not self._callers, timeout=grace):
                _logger.warning("requests are cancelled by the stop", extra={"calls": len(self._callers)})
            for handle in self._callers:
                handle.post(Unavailable("the service has stopped; send the request again", retry_after=5))
                handle.cancel()
            self._changed.wait_for(lambda: not self._callers, timeout=_CLOSING_SECONDS)
        self._client.close()

    def check(self, request: GenerationRequest, size: int) -> None:
        """Check the weights of references, which the model has not.

        Raises:
            InvalidArgument: A weight is not 1.
        """
        for number, reference in enumerate(request.references):
            if reference.weight != 1:
                raise InvalidArgument(
                    f"must be 1: model {self.model.name!r} does not support weights",
                    field=f"references.{number}.weight",
                )

    def refuse_if_full(self) -> None:
        """Raise the error with which `admit` would refuse any request now.

        Raises:
            Overloaded: All slots are taken.
            Unavailable: The service is starting or stopping.
        """
        with self._changed:
            try:
                self._require_slot()
            except Overloaded:
                metrics.CALLS.labels("refused").inc()
                raise

    @contextmanager
    def admit(
        self, handle: RequestHandle, request: GenerationRequest, *, size: int, neighbors: int, priority: Priority
    ) -> Iterator[ImageAdmission]:
        """Hold a slot for the request; see `Backend.admit`."""
        self.check(request, size)
        caller = current_caller().id
        while not self._take(handle, caller, waits=priority is Priority.BACKGROUND):
            handle.pause(_SHORTEST_PAUSE)
            handle.restart()
        try:
            # All admitted requests are drawn at the same time, so none is ahead.
            yield ImageAdmission(0, self._client, handle, size, priority)
        finally:
            handle.cancel()
            with self._changed:
                del self._callers[handle]
                self._report()
                self._changed.notify_all()

    def _take(self, handle: RequestHandle, caller: str, *, waits: bool) -> bool:
        """Take a slot and return True. If there is none, return False to a request that waits, and refuse another."""
        with self._changed:
            try:
                self._require_slot()
                held = sum(other == caller for other in self._callers.values())
                if caller and held >= share_of_caller(self.slots):
                    message = f"{held} requests of this API key are being drawn; try again later"
                    raise Overloaded(message, retry_after=_RETRY_SECONDS)
            except Overloaded:
                if waits:
                    return False
                metrics.CALLS.labels("refused").inc()
                raise
            self._callers[handle] = caller
            self._report()
        return True

    def _require_slot(self) -> None:
        if self._state is not State.READY:
            raise Unavailable(f"the service is {self._state.value}; try again soon", retry_after=5)
        if len(self._callers) >= self.slots:
            message = f"{len(self._callers)} requests are being drawn; try again later"
            raise Overloaded(message, retry_after=_RETRY_SECONDS)

    def _report(self) -> None:
        metrics.QUEUE_LENGTH.set(len(self._callers))
        metrics.SLOTS_USED.set(len(self._callers) / self.slots)


def _png(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
