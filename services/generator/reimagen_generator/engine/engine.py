"""The owner of the accelerator: it admits a bounded number of requests and draws their images, step by step.

Each turn of the engine's thread takes one step of one batch. The images of a batch may belong to different requests, be
at different steps, and be guided differently; they only need the same stage and the same space for neighbors. Requests
join and leave between two turns.
"""

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import Enum
from typing import Final

import jax

from reimagen_common import tracing
from reimagen_common.errors import DeadlineExceeded, Overloaded, ReimagenError, Unavailable
from reimagen_generator import metrics
from reimagen_generator.diffusion.cascade import Cascade, wait_for
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.diffusion.sampling_state import SamplingState
from reimagen_generator.engine.backlog import Backlog, estimate
from reimagen_generator.engine.counters import Counters
from reimagen_generator.engine.image_row import Advanced, ImageRow, Request, Route
from reimagen_generator.engine.refusals import refuse_greedy, refuse_late
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.engine.scheduler import Scheduler
from reimagen_generator.engine.step_times import StepTimes
from reimagen_generator.engine.warm_up import compile_steps, warm_up
from reimagen_generator.engine.work import GenerationTask, Work

# A CPU's cores are kept busy by one image; more in a batch would only make each of them wait for the others.
_ACCELERATOR_BATCH: Final = 16

_logger = logging.getLogger(__name__)


class State(Enum):
    """Whether requests are admitted."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Admission:
    """A request's slot in the engine, held until the request ends."""

    def __init__(self, engine: "Engine", request: Request, ahead: int) -> None:
        """Create an admission; only `Engine.admit` does.

        Args:
            engine: The engine that admitted the request.
            request: The request.
            ahead: Number of requests that were admitted before it and have not ended.
        """
        self.ahead = ahead
        self._engine = engine
        self._request = request

    def draw(self, task: GenerationTask) -> Iterator[StepEvent | ImagesEvent]:
        """Queue the images, and yield their events: each image's steps, and each image as soon as it is finished.

        The iterator raises:
            Cancelled: the client has gone.
            DeadlineExceeded: the deadline passed, in the queue or during drawing.
            ReimagenError: drawing failed; other requests are not affected.
        """
        self._engine.queue(self._request, task)
        return self._events(len(task.seeds))

    def _events(self, missing: int) -> Iterator[StepEvent | ImagesEvent]:
        while missing:
            event = self._request.handle.receive()
            if isinstance(event, ImagesEvent):
                missing -= len(event.images)
            yield event


class Engine:
    """Draws with one cascade for many requests at once."""

    def __init__(self, cascade: Cascade, *, capacity: int, largest_batch: int | None = None) -> None:
        """Create an engine that is not started.

        Args:
            cascade: The cascade to draw with.
            capacity: Maximum number of requests in the engine, drawn or waiting.
            largest_batch: Maximum number of images in a batch; None for 16, or 1 on a CPU. Batches are smaller where
                that is faster.
        """
        self.cascade = cascade
        self.times = StepTimes()
        """Measured seconds of steps."""
        on_cpu = jax.default_backend() == "cpu"
        self._largest_batch = largest_batch or (1 if on_cpu else _ACCELERATOR_BATCH)
        self._slots = capacity
        self._state = State.STARTING
        self._counters = Counters()
        self._changed = threading.Condition()
        self._requests: dict[RequestHandle, Request] = {}
        self.scheduler: Scheduler[ImageRow] = Scheduler(self.times, self._largest_batch)
        """Chooses which images take the next step."""
        self._stopped = False
        self._compiling = threading.Lock()
        self._worker = threading.Thread(target=self._run, name="engine")

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
        """Maximum number of requests in the engine."""
        return self._slots

    def start(self) -> None:
        """Compile the cascade, which may take minutes the first time, then admit requests."""
        started = time.monotonic()
        warm_up(self.cascade, self._largest_batch, self.times)
        _logger.info("the cascade is compiled", extra={"seconds": round(time.monotonic() - started, 1)})
        metrics.BACKLOG_SECONDS.set_function(self._backlog_seconds)
        self._worker.start()
        self._state = State.READY

    def stop(self, grace: float) -> None:
        """Stop admitting, wait up to `grace` seconds for admitted requests to end, then cancel the rest."""
        self._state = State.STOPPING
        with self._changed:
            if not self._changed.wait_for(lambda: not self._requests, timeout=grace):
                _logger.warning("requests are cancelled by the stop", extra={"calls": len(self._requests)})
            for handle in self._requests:
                handle.post(Unavailable("the service has stopped; send the request again", retry_after=5))
                handle.cancel()
            self._stopped = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join()

    def refuse_if_full(self) -> None:
        """Raise the error with which `admit` would refuse any request now.

        Raises:
            Overloaded: All slots are taken.
            Unavailable: The service is starting or stopping.
        """
        with self._changed:
            if self._state is not State.READY:
                raise Unavailable(f"the service is {self._state.value}; try again soon", retry_after=5)
            if len(self._requests) >= self._slots:
                self._count(refused=1)
                raise Overloaded(
                    f"{len(self._requests)} requests are being drawn or waiting; try again later",
                    retry_after=math.ceil(self._backlog().seconds_per_request),
                )

    @contextmanager
    def admit(self, handle: RequestHandle, work: Work) -> Iterator[Admission]:
        """Hold a slot for the request, or refuse it at once; leaving the context cancels the request's work.

        Raises:
            Overloaded: All slots are taken, the caller holds its share of them, or the backlog is too long for the
                deadline.
            DeadlineExceeded: The deadline is too early even without other requests.
            Unavailable: The service is starting or stopping.
        """
        route = Route.of(self.cascade, work, work.neighbors)
        with self._changed:
            self.refuse_if_full()
            ahead = len(self._requests)
            request = Request(handle, work, estimate(route, work, self.times))
            backlog = self._backlog()
            try:
                refuse_greedy(request, self._requests.values(), self._slots, backlog)
                refuse_late(request, backlog)
            except ReimagenError:
                self._count(refused=1)
                raise
            self._requests[handle] = request
            self._report()
        try:
            yield Admission(self, request, ahead)
        finally:
            handle.cancel()
            with self._changed:
                del self._requests[handle]
                self._report()
                self._changed.notify_all()

    def queue(self, request: Request, task: GenerationTask) -> None:
        """Queue the images of an admitted request."""
        request.handle.queued_at = time.monotonic()
        route = Route.of(self.cascade, request.work, len(task.neighbors))
        self._compile(route)
        rows = [ImageRow(self.cascade, request, task, index, route) for index in range(len(task.seeds))]
        with self._changed:
            request.rows = rows
            for row in rows:
                self.scheduler.add(row)
            self._changed.notify_all()

    def _compile(self, route: Route) -> None:
        """Compile steps that are needed for the first time, on the request's thread: other requests go on meanwhile.

        The number of kinds is small, but to compile all of them would make each start take minutes.
        """
        with self._compiling:
            for kind in dict.fromkeys(kind for kinds in route.kinds for kind in kinds):
                if kind not in self.times:
                    started = time.monotonic()
                    measured = compile_steps(self.cascade, kind, self.times.sizes(kind.stage))
                    with self._changed:
                        self.times.add(kind, measured)
                    seconds = round(time.monotonic() - started, 1)
                    _logger.info("an unusual step is compiled", extra=asdict(kind) | {"seconds": seconds})

    def _backlog(self) -> Backlog:
        return Backlog.of(self._requests.values(), self.times)

    def _report(self) -> None:
        metrics.QUEUE_LENGTH.set(len(self._requests))
        metrics.SLOTS_USED.set(len(self._requests) / self._slots)

    def _backlog_seconds(self) -> float:
        with self._changed:
            return self._backlog().seconds

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or any(True for _ in self.scheduler.rows()))
                if self._stopped:
                    return
                self._end_cancelled()
                batch = self.scheduler.next_batch()
            try:
                self._take_step(batch)
            except Exception as error:  # noqa: BLE001  (posted to the requests)
                # The thread must survive any error: other requests are not affected.
                for row in batch:
                    self._fail(row.request, error)

    def _end_cancelled(self) -> None:
        """End requests that were cancelled or are past their deadline; the caller holds the lock."""
        for request in {row.request for row in self.scheduler.rows()}:
            try:
                request.handle.check()
            except (Cancelled, DeadlineExceeded) as error:
                self._end(request, error)

    def _take_step(self, batch: list[ImageRow]) -> None:
        """Take one step of each image of a batch, and post the events. A failure ends only the request that fails."""
        started = time.monotonic()
        kind = batch[0].kind
        states: dict[ImageRow, SamplingState] = {}
        for row in batch:
            self._begin_request(row.request, started)
            try:
                states[row] = row.begin()
            except Exception as error:  # noqa: BLE001  (posted to the request)
                self._fail(row.request, error)
        rows = [row for row in states if row in row.request.rows]  # without those of requests that have failed
        if not rows:
            return
        size = self.times.batch_size(kind, len(rows))
        filled = [*range(len(rows)), *[len(rows) - 1] * (size - len(rows))]
        began = time.monotonic()
        try:
            advanced = self.cascade.stage(kind.stage).advance_rows(
                [states[rows[index]] for index in filled], [rows[index].steps for index in filled], kind.evaluations
            )[: len(rows)]
            wait_for([state.x for state in advanced])
        except Exception as error:  # noqa: BLE001  (posted to the request)
            if len(rows) == 1:
                self._fail(rows[0].request, error)
            else:
                # It is not known which image has failed: each takes the step alone.
                for row in rows:
                    if row in row.request.rows:
                        self._take_step([row])
            return
        now = time.monotonic()
        metrics.STEP_SECONDS.labels(self.cascade.sizes[kind.stage], size).observe(now - began)
        with self._changed:
            self.times.measured(kind, size, now - began)
            self.scheduler.charge(rows, now - started)
        for row, state in zip(rows, advanced, strict=True):
            if row in row.request.rows:
                self._accept_step(row, state)

    def _accept_step(self, row: ImageRow, state: SamplingState) -> None:
        request = row.request
        try:
            result = row.advance(state)
        except Exception as error:  # noqa: BLE001  (posted to the request)
            self._fail(request, error)
            return
        request.handle.context.run(_record, result)
        request.handle.post(result.event)
        with self._changed:
            self._count(steps=1)
            if result.image is None:
                return
            self.scheduler.remove(row)
            request.rows.remove(row)
            if not request.rows:
                self._count(finished=1)
        request.handle.post(ImagesEvent(result.image, row.index))

    def _begin_request(self, request: Request, now: float) -> None:
        if request.started is None:
            request.started = now
            waited = now - request.handle.queued_at
            metrics.QUEUE_SECONDS.observe(waited)
            request.handle.context.run(tracing.record, "queue", waited)

    def _fail(self, request: Request, error: Exception) -> None:
        def log() -> None:
            _logger.error("drawing failed", exc_info=error, extra={"call": request.handle.id})

        request.handle.context.run(log)
        with self._changed:
            self._end(
                request, ReimagenError(f"drawing failed; the service's log has the reason under {request.handle.id}")
            )

    def _end(self, request: Request, error: Exception) -> None:
        """Remove a request's images from the queue and post the reason; the caller holds the lock."""
        if not request.rows:
            return  # Another of its images has already ended it.
        for row in request.rows:
            self.scheduler.remove(row)
        metrics.STEPS_CANCELLED.inc(sum(row.left for row in request.rows))
        request.rows = []
        match error:
            case Cancelled():
                self._count(cancelled=1)
            case DeadlineExceeded():
                self._count(deadline_exceeded=1)
            case _:
                self._count(failed=1)
        request.handle.post(error)

    def _count(self, **more: int) -> None:
        """Add to the counters; the caller holds the lock."""
        counted = {name: getattr(self._counters, name) + value for name, value in more.items()}
        self._counters = replace(self._counters, **counted)
        for name, value in more.items():
            if name != "steps":
                metrics.CALLS.labels(name).inc(value)


def _record(result: Advanced) -> None:
    """Add a step to metrics and traces, in the context of its request."""
    event = result.event
    metrics.STEPS.labels(event.size).inc()
    metrics.EVALUATIONS.labels(event.size).inc(event.evaluations)
    if result.stage_seconds is not None:
        metrics.STAGE_SECONDS.labels(event.size).observe(result.stage_seconds)
        tracing.record("stage", result.stage_seconds, {"size": event.size, "steps": event.steps})
    if result.image is not None:
        metrics.IMAGES.labels(event.size).inc()
