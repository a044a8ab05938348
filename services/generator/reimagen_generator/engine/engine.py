"""The owner of the accelerator: it admits a bounded number of requests and draws them one after another."""

import logging
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from jaxtyping import UInt8

from reimagen_common import tracing
from reimagen_common.errors import DeadlineExceeded, Overloaded, ReimagenError, Unavailable
from reimagen_generator import metrics
from reimagen_generator.config.cascade import Guidance
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle

_logger = logging.getLogger(__name__)


class State(Enum):
    """Whether requests are admitted."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True)
class GenerationTask:
    """What to draw for one request: one image for each seed."""

    prompt: str
    neighbors: Sequence[ReferencePair]
    seeds: Sequence[int]
    size: int
    """Side of the images in pixels."""
    guidance: Sequence[Guidance] | None
    """Of each stage up to the size; None for the stages' own."""
    previews: int
    """How many previews of the first image to send."""
    steps_factor: float = 1.0
    """How many times its own steps each stage takes."""


@dataclass(frozen=True)
class Counters:
    """How many requests have ended in each way since the start, and how many steps were taken."""

    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    deadline_exceeded: int = 0
    refused: int = 0
    steps: int = 0


class Admission:
    """A request's slot in the engine, held until the request ends."""

    def __init__(
        self,
        request: RequestHandle,
        *,
        ahead: int,
        tasks: "queue.SimpleQueue[tuple[RequestHandle, GenerationTask] | None]",
    ) -> None:
        """Make an admission; only `Engine.admit` does.

        Args:
            request: The request that was admitted.
            ahead: How many requests were admitted before it and have not ended.
            tasks: The engine's queue.
        """
        self.ahead = ahead
        self._request = request
        self._tasks = tasks

    def draw(self, task: GenerationTask) -> Iterator[StepEvent | ImagesEvent]:
        """Queue the task, and yield its events: for each batch of images its steps, then the images.

        The iterator raises:
            Cancelled: the client has gone.
            DeadlineExceeded: the deadline passed, in the queue or during drawing.
            ReimagenError: drawing failed; other requests are not affected.
        """
        self._request.queued_at = time.monotonic()
        self._tasks.put((self._request, task))
        return self._events(len(task.seeds))

    def _events(self, missing: int) -> Iterator[StepEvent | ImagesEvent]:
        while missing:
            event = self._request.receive()
            if isinstance(event, ImagesEvent):
                missing -= len(event.images)
            yield event


class Engine:
    """Draws with one cascade, one request at a time, first come first served."""

    def __init__(self, cascade: Cascade, *, capacity: int, batch_size: int = 1) -> None:
        """Make an engine that is not started.

        Args:
            cascade: The cascade to draw with.
            capacity: How many requests may wait beside the one that is being drawn.
            batch_size: How many images are drawn at once. Code is compiled for it: a request for more is drawn in
                several batches, and the last one is filled up.
        """
        self.cascade = cascade
        self._batch_size = batch_size
        self._slots = capacity + 1
        self._state = State.STARTING
        self._counters = Counters()
        self._seconds_per_request = 1.0
        self._changed = threading.Condition()
        self._requests: set[RequestHandle] = set()
        self._tasks: queue.SimpleQueue[tuple[RequestHandle, GenerationTask] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="engine")

    @property
    def state(self) -> State:
        """Whether requests are admitted now."""
        return self._state

    @property
    def counters(self) -> Counters:
        """The counters since the start."""
        return self._counters

    @property
    def slots(self) -> int:
        """How many requests the engine holds at most."""
        return self._slots

    def start(self) -> None:
        """Compile the cascade, which may take minutes the first time, then admit requests."""
        started = time.monotonic()
        self.cascade.warm_up(batch_size=self._batch_size)
        _logger.info("the cascade is compiled", extra={"seconds": round(time.monotonic() - started, 1)})
        self._worker.start()
        self._state = State.READY

    def stop(self, grace: float) -> None:
        """Stop admitting, wait up to `grace` seconds for admitted requests to end, then cancel the rest."""
        self._state = State.STOPPING
        with self._changed:
            if not self._changed.wait_for(lambda: not self._requests, timeout=grace):
                _logger.warning("requests are cancelled by the stop", extra={"calls": len(self._requests)})
            for request in self._requests:
                request.post(Unavailable("the service has stopped; send the request again", retry_after=5))
                request.cancel()
        self._tasks.put(None)
        if self._worker.is_alive():
            self._worker.join()

    @contextmanager
    def admit(self, request: RequestHandle) -> Iterator[Admission]:
        """Hold a slot for the request, or refuse it at once; leaving the context cancels the request's work.

        Raises:
            Overloaded: all slots are taken.
            Unavailable: the service is starting or stopping.
        """
        with self._changed:
            if self._state is not State.READY:
                raise Unavailable(f"the service is {self._state.value}; try again soon", retry_after=5)
            ahead = len(self._requests)
            if ahead >= self._slots:
                self._count(refused=1)
                raise Overloaded(
                    f"{ahead} requests are waiting already; try again later",
                    retry_after=math.ceil(self._seconds_per_request),
                )
            self._requests.add(request)
            metrics.QUEUE_LENGTH.set(len(self._requests))
        try:
            yield Admission(request, ahead=ahead, tasks=self._tasks)
        finally:
            request.cancel()
            with self._changed:
                self._requests.discard(request)
                metrics.QUEUE_LENGTH.set(len(self._requests))
                self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._tasks.get()) is not None:
            request, task = job
            try:
                request.context.run(self._draw, request, task)
            except Cancelled as error:
                self._count(cancelled=1)
                request.post(error)
            except DeadlineExceeded as error:
                self._count(deadline_exceeded=1)
                request.post(error)
            except Exception:
                # The worker must survive any error: the next request is not affected.
                _logger.exception("drawing failed", extra={"call": request.id})
                self._count(failed=1)
                request.post(ReimagenError(f"drawing failed; the service's log has the reason under {request.id}"))

    def _draw(self, request: RequestHandle, task: GenerationTask) -> None:
        started = time.monotonic()
        waited = started - request.queued_at
        metrics.QUEUE_SECONDS.observe(waited)
        tracing.record("queue", waited)
        batches = range(0, len(task.seeds), self._batch_size)
        progress = _Progress(self._batch_size, missing=len(batches) * self._steps(task))
        try:
            for index in batches:
                request.check()
                images = self._draw_batch(request, task, index, progress)
                metrics.IMAGES.labels(task.size).inc(len(images))
                if index + len(images) == len(task.seeds):
                    self._seconds_per_request = time.monotonic() - started
                    self._count(finished=1)
                request.post(ImagesEvent(images, index))
        except (Cancelled, DeadlineExceeded):
            metrics.STEPS_CANCELLED.inc(progress.missing)
            raise

    def _draw_batch(
        self, request: RequestHandle, task: GenerationTask, index: int, progress: "_Progress"
    ) -> UInt8[np.ndarray, "some size size 3"]:
        seeds = task.seeds[index : index + self._batch_size]
        filled = [*seeds, *[seeds[-1]] * (self._batch_size - len(seeds))]
        events = self.cascade.draw(
            task.prompt,
            task.neighbors,
            seeds=filled,
            size=task.size,
            guidance=task.guidance,
            steps_factor=task.steps_factor,
            previews=self._preview_steps(task) if index == 0 else frozenset(),
        )
        progress.began = time.monotonic()
        for event in events:
            request.check()
            match event:
                case StepEvent():
                    self._count(steps=1)
                    progress.step(event)
                    request.post(replace(event, index=index))
                case ImagesEvent():
                    return event.images[: len(seeds)]
        raise AssertionError("drawing ends with images")

    def _steps(self, task: GenerationTask) -> int:
        """Return how many steps a batch of the task takes."""
        stages = [stage for stage in self.cascade.config.stages if stage.size <= task.size]
        return sum(stage.with_steps(task.steps_factor).steps for stage in stages)

    def _preview_steps(self, task: GenerationTask) -> frozenset[int]:
        """Return the first batch's steps, from 1, at which a preview is due: evenly spread, the last step left out."""
        steps = self._steps(task)
        return frozenset(max(1, steps * (number + 1) // (task.previews + 1)) for number in range(task.previews))

    def _count(self, **more: int) -> None:
        with self._changed:
            counted = {name: getattr(self._counters, name) + value for name, value in more.items()}
            self._counters = replace(self._counters, **counted)
        for name, value in more.items():
            if name != "steps":
                metrics.CALLS.labels(name).inc(value)


@dataclass
class _Progress:
    """How far a task is, for metrics and traces."""

    batch_size: int
    missing: int
    """Steps still to do."""
    began: float = 0.0
    """When the current stage began, by the monotonic clock."""

    def step(self, event: StepEvent) -> None:
        self.missing -= 1
        metrics.STEPS.labels(event.size).inc()
        metrics.EVALUATIONS.labels(event.size).inc(event.evaluations * self.batch_size)
        if event.step == event.steps:
            now = time.monotonic()
            seconds = now - self.began
            metrics.STAGE_SECONDS.labels(event.size).observe(seconds)
            tracing.record("stage", seconds, {"size": event.size, "steps": event.steps})
            self.began = now
