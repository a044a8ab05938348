"""The owner of the accelerator: it admits as many calls as it can bear and draws them one after another."""

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
from reimagen_generator.diffusion.cascade import Cascade, Drawn, GuidanceOptions, StepDone
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.engine.request_handle import Cancelled, Finished, RequestHandle, Step

_logger = logging.getLogger(__name__)


class State(Enum):
    """Whether calls are admitted."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True)
class GenerationTask:
    """What is to be drawn, one image for each seed."""

    prompt: str
    neighbors: Sequence[ReferencePair]
    seeds: Sequence[int]
    size: int
    guidance: GuidanceOptions
    previews: int
    steps_factor: float = 1.0


@dataclass(frozen=True)
class Counters:
    """What has become of the calls since the start."""

    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    deadline_exceeded: int = 0
    refused: int = 0
    steps: int = 0


class Place:
    """A call's place in the engine, held from its admission to its end."""

    def __init__(
        self, call: RequestHandle, *, ahead: int, jobs: "queue.SimpleQueue[tuple[RequestHandle, GenerationTask] | None]"
    ) -> None:
        """Made by `Engine.admit`."""
        self.ahead = ahead
        self._call = call
        self._jobs = jobs

    def draw(self, task: GenerationTask) -> Iterator[Step | Finished]:
        """Queue the task, then yield what is drawn: for each batch of images its `Step`s and one `Finished`.

        The iterator raises:
            Cancelled: the caller has gone.
            DeadlineExceeded: its time was up, in the queue or while it was drawn.
            ReimagenError: the drawing failed; other calls are not touched.
        """
        self._call.queued_at = time.monotonic()
        self._jobs.put((self._call, task))
        return self._events(len(task.seeds))

    def _events(self, missing: int) -> Iterator[Step | Finished]:
        while missing:
            event = self._call.receive()
            if isinstance(event, Finished):
                missing -= len(event.images)
            yield event


class Engine:
    """Draws with one cascade, one call at a time, in the order of their arrival."""

    def __init__(self, cascade: Cascade, *, capacity: int, batch_size: int = 1) -> None:
        """Take the cascade that draws.

        Args:
            cascade: What draws.
            capacity: How many calls may wait beside the one that is being drawn.
            batch_size: How many images are drawn at once. It is what is compiled: a call for more is drawn in
                several batches, and the last one is filled up.
        """
        self.cascade = cascade
        self._batch_size = batch_size
        self._places = capacity + 1
        self._state = State.STARTING
        self._counters = Counters()
        self._seconds_a_call = 1.0
        self._changed = threading.Condition()
        self._calls: set[RequestHandle] = set()
        self._jobs: queue.SimpleQueue[tuple[RequestHandle, GenerationTask] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="engine")

    @property
    def state(self) -> State:
        """Whether calls are admitted now."""
        return self._state

    @property
    def counters(self) -> Counters:
        """What has become of the calls so far."""
        return self._counters

    @property
    def places(self) -> int:
        """How many calls the engine holds at most."""
        return self._places

    def start(self) -> None:
        """Compile the cascade, which may take minutes the first time, then admit calls."""
        started = time.monotonic()
        self.cascade.warm_up(batch_size=self._batch_size)
        _logger.info("the cascade is compiled", extra={"seconds": round(time.monotonic() - started, 1)})
        self._worker.start()
        self._state = State.READY

    def stop(self, grace: float) -> None:
        """Admit no more, give those admitted `grace` seconds to end, cancel the rest."""
        self._state = State.STOPPING
        with self._changed:
            if not self._changed.wait_for(lambda: not self._calls, timeout=grace):
                _logger.warning("calls are cut off by the stop", extra={"calls": len(self._calls)})
            for call in self._calls:
                call.post(Unavailable("the service has stopped; send the request again", retry_after=5))
                call.cancel()
        self._jobs.put(None)
        if self._worker.is_alive():
            self._worker.join()

    @contextmanager
    def admit(self, call: RequestHandle) -> Iterator[Place]:
        """Hold a place for the call, or refuse it at once; leaving the context ends the call's work.

        Raises:
            Overloaded: every place is taken.
            Unavailable: the service is starting or stopping.
        """
        with self._changed:
            if self._state is not State.READY:
                raise Unavailable(f"the service is {self._state.value}; try again soon", retry_after=5)
            ahead = len(self._calls)
            if ahead >= self._places:
                self._count(refused=1)
                raise Overloaded(
                    f"{ahead} requests are waiting already; try again later",
                    retry_after=math.ceil(self._seconds_a_call),
                )
            self._calls.add(call)
            metrics.QUEUE_LENGTH.set(len(self._calls))
        try:
            yield Place(call, ahead=ahead, jobs=self._jobs)
        finally:
            call.cancel()
            with self._changed:
                self._calls.discard(call)
                metrics.QUEUE_LENGTH.set(len(self._calls))
                self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, task = job
            try:
                call.context.run(self._draw, call, task)
            except Cancelled as error:
                self._count(cancelled=1)
                call.post(error)
            except DeadlineExceeded as error:
                self._count(deadline_exceeded=1)
                call.post(error)
            except Exception:
                # The worker outlives whatever a drawing raises: the next call is not to pay for this one.
                _logger.exception("a drawing failed", extra={"call": call.id})
                self._count(failed=1)
                call.post(ReimagenError(f"the drawing failed; the service's log says why under {call.id}"))

    def _draw(self, call: RequestHandle, task: GenerationTask) -> None:
        started = time.monotonic()
        waited = started - call.queued_at
        metrics.QUEUE_SECONDS.observe(waited)
        tracing.record("queue", waited)
        batches = range(0, len(task.seeds), self._batch_size)
        progress = _Progress(self._batch_size, missing=len(batches) * self._steps(task))
        try:
            for index in batches:
                call.check()
                images = self._draw_batch(call, task, index, progress)
                metrics.IMAGES.labels(task.size).inc(len(images))
                if index + len(images) == len(task.seeds):
                    self._seconds_a_call = time.monotonic() - started
                    self._count(finished=1)
                call.post(Finished(index, images))
        except (Cancelled, DeadlineExceeded):
            metrics.STEPS_CANCELLED.inc(progress.missing)
            raise

    def _draw_batch(
        self, call: RequestHandle, task: GenerationTask, index: int, progress: "_Progress"
    ) -> UInt8[np.ndarray, "some size size 3"]:
        due = self._preview_steps(task) if index == 0 else frozenset()
        seeds = task.seeds[index : index + self._batch_size]
        filled = [*seeds, *[seeds[-1]] * (self._batch_size - len(seeds))]
        events = self.cascade.draw(
            task.prompt,
            task.neighbors,
            seeds=filled,
            size=task.size,
            guidance=task.guidance,
            steps_factor=task.steps_factor,
        )
        progress.began = time.monotonic()
        for done, event in enumerate(events, start=1):
            call.check()
            match event:
                case StepDone():
                    self._count(steps=1)
                    progress.step(event)
                    preview = event.preview() if done in due else None
                    call.post(Step(index, event.stage, event.size, event.step, event.steps, preview))
                case Drawn():
                    return event.images[: len(seeds)]
        raise AssertionError("a drawing ends with its images")

    def _steps(self, task: GenerationTask) -> int:
        """How many steps a batch of the drawing takes."""
        stages = [stage for stage in self.cascade.config.stages if stage.size <= task.size]
        return sum(stage.with_steps(task.steps_factor).steps for stage in stages)

    def _preview_steps(self, task: GenerationTask) -> frozenset[int]:
        """At which of the first image's steps, from 1, a preview is due: evenly spread, the end left out."""
        steps = self._steps(task)
        return frozenset(max(1, steps * (index + 1) // (task.previews + 1)) for index in range(task.previews))

    def _count(self, **more: int) -> None:
        with self._changed:
            counted = {name: getattr(self._counters, name) + value for name, value in more.items()}
            self._counters = replace(self._counters, **counted)
        for name, value in more.items():
            if name != "steps":
                metrics.CALLS.labels(name).inc(value)


@dataclass
class _Progress:
    """How far a drawing is, measured."""

    batch_size: int
    missing: int
    """Steps that are still to be done."""
    began: float = 0.0
    """When the stage that is being drawn began, by the monotonic clock."""

    def step(self, done: StepDone) -> None:
        self.missing -= 1
        metrics.STEPS.labels(done.size).inc()
        metrics.EVALUATIONS.labels(done.size).inc(done.evaluations * self.batch_size)
        if done.step == done.steps:
            now = time.monotonic()
            seconds = now - self.began
            metrics.STAGE_SECONDS.labels(done.size).observe(seconds)
            tracing.record("stage", seconds, {"size": done.size, "steps": done.steps})
            self.began = now
