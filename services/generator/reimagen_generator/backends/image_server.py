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
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.engine.slots import Slots
from reimagen_generator.engine.state import State
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

    _client: OpenAIImages
    _handle: RequestHandle
    _size: int
    _priority: Priority

    @property
    def ahead(self) -> int:
        """Zero: all admitted requests are drawn at the same time."""
        return 0

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


@dataclass(eq=False)
class _Request:
    """A request that holds a slot or waits for one."""

    handle: RequestHandle
    caller: str
    ahead: int = 0
    arrived: float = 0.0


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
        self._state = State.STARTING
        self._client = OpenAIImages(upstream)
        self._changed = threading.Condition()
        self._slots: Slots[_Request] = Slots(upstream.concurrency, lambda _: _RETRY_SECONDS)

    @property
    def state(self) -> State:
        """Whether requests are admitted now."""
        return self._state

    @property
    def slots(self) -> int:
        """Maximum number of admitted requests."""
        return self._slots.number

    def start(self) -> None:
        """Admit requests. The server is not called: it may be down now and up later."""
        self._state = State.READY

    def stop(self, grace: float) -> None:
        """Stop admitting, wait up to `grace` seconds for admitted requests to end, then cancel the rest."""
        stopped = Unavailable("the service has stopped; send the request again", retry_after=5)
        with self._changed:
            self._state = State.STOPPING
            self._slots.end_waiting(stopped)
            if not self._changed.wait_for(lambda: len(self._slots) == 0, timeout=grace):
                _logger.warning("requests are cancelled by the stop", extra={"calls": len(self._slots)})
            for request in self._slots:
                request.handle.post(stopped)
                request.handle.cancel()
            self._changed.wait_for(lambda: len(self._slots) == 0, timeout=_CLOSING_SECONDS)
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
            self._refuse_unless_ready()
            with _counting_refusals():
                self._slots.refuse_if_full()

    @contextmanager
    def admit(
        self, handle: RequestHandle, request: GenerationRequest, *, size: int, neighbors: int, priority: Priority
    ) -> Iterator[ImageAdmission]:
        """Hold a slot for the request; see `Backend.admit`."""
        self.check(request, size)
        holder = _Request(handle, current_caller().id)
        with self._changed:
            self._refuse_unless_ready()
            if priority is Priority.BACKGROUND:
                self._slots.wait(holder)
            else:
                with _counting_refusals():
                    self._slots.take(holder)
        try:
            if priority is Priority.BACKGROUND:
                handle.wait_for_admission()
            yield ImageAdmission(self._client, handle, size, priority)
        finally:
            handle.cancel()
            with self._changed:
                self._slots.leave(holder)
                self._changed.notify_all()

    def _refuse_unless_ready(self) -> None:
        if self._state is not State.READY:
            raise Unavailable(f"the service is {self._state.value}; try again soon", retry_after=5)


@contextmanager
def _counting_refusals() -> Iterator[None]:
    try:
        yield
    except Overloaded:
        metrics.CALLS.labels("refused").inc()
        raise


def _png(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
