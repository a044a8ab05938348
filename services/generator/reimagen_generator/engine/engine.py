"""The owner of the accelerator: it admits a bounded number of requests and draws their images, step by step.

Each turn of the engine's thread takes one step of one batch. The images of a batch may belong to different requests, be
at different steps, and be guided differently; they only need the same stage and the same space for neighbors. Requests
join and leave between two turns.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

import jax

from reimagen_common.errors import DeadlineExceeded, ReimagenError, Unavailable
from reimagen_generator import metrics
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.engine.backlog import Backlog, new_request, seconds_left
from reimagen_generator.engine.counters import Counters, Tally
from reimagen_generator.engine.device import Device
from reimagen_generator.engine.image_row import ImageRow, Request
from reimagen_generator.engine.refusals import engine_slots
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.engine.route import Route
from reimagen_generator.engine.scheduler import Scheduler
from reimagen_generator.engine.state import State
from reimagen_generator.engine.step_times import StepTimes
from reimagen_generator.engine.turns import Turns
from reimagen_generator.engine.warm_up import compile_steps, warm_up
from reimagen_generator.engine.work import GenerationTask, Priority, Work
from reimagen_generator.start_times import measured_warm_up

# A CPU's cores are kept busy by one image; more in a batch would only make each of them wait for the others.
_ACCELERATOR_BATCH: Final = 16

_logger = logging.getLogger(__name__)


class Admission:
    """A request's slot in the engine, held until the request ends."""

    def __init__(self, engine: "Engine", request: Request) -> None:
        """Create an admission; only `Engine.admit` does.

        Args:
            engine: The engine that admitted the request.
            request: The request.
        """
        self.ahead = request.ahead
        """Number of requests that were admitted before it and had not ended."""
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

    def __init__(
        self,
        cascade: Cascade,
        *,
        capacity: int,
        largest_batch: int | None = None,
        device: Device | None = None,
        policy: Callable[[StepTimes, int], Scheduler[ImageRow]] = Scheduler,
    ) -> None:
        """Create an engine that is not started.

        Args:
            cascade: The cascade to draw with.
            capacity: Maximum number of requests in the engine, drawn or waiting.
            largest_batch: Maximum number of images in a batch; None for 16, or 1 on a CPU. Batches are smaller where
                that is faster.
            device: Executes the engine's orders with this cascade; None for this process alone.
            policy: Makes the scheduler, of the measured times and the largest batch. Benchmarks compare others.
        """
        self.cascade = cascade
        self._device = device or Device(cascade)
        self.times = StepTimes()
        """Measured seconds of steps and of stages' starts."""
        on_cpu = jax.default_backend() == "cpu"
        self._largest_batch = largest_batch or (1 if on_cpu else _ACCELERATOR_BATCH)
        self._slots = engine_slots(capacity)
        self._state = State.STARTING
        self._tally = Tally()
        self._changed = threading.Condition()
        self._scheduler = policy(self.times, self._largest_batch)
        self._turns = Turns(self._device, self.times, self._scheduler, self._tally, self._changed)
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
        return self._tally.counters

    @property
    def slots(self) -> int:
        """Maximum number of requests in the engine."""
        return self._slots.number

    def start(self) -> None:
        """Compile the cascade, which may take minutes the first time, then admit requests."""
        with measured_warm_up():
            warm_up(self._device, self._largest_batch, self.times)
        metrics.BACKLOG_SECONDS.set_function(self._backlog_seconds)
        self._worker.start()
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
            self._stopped = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join()

    def fail(self, error: Unavailable) -> None:
        """Stop admitting, and end all requests with an error, although the device may never return from a step."""
        with self._changed:
            self._state = State.STOPPING
            self._slots.end_waiting(error)
            for request in self._slots:
                request.handle.post(error)

    def refuse_if_full(self) -> None:
        """Raise the error with which `admit` would refuse any request now.

        Raises:
            Overloaded: All slots are taken.
            Unavailable: The service is starting or stopping.
        """
        with self._changed:
            self._refuse_unless_ready()
            try:
                self._slots.refuse_if_full()
            except ReimagenError:
                self._tally.count(refused=1)
                raise

    @contextmanager
    def admit(self, handle: RequestHandle, work: Work) -> Iterator[Admission]:
        """Hold a slot for the request; leaving the context cancels the request's work.

        An interactive request is refused at once if it cannot be admitted. A background request waits until others have
        ended, and its deadline counts from its admission.

        Raises:
            Overloaded: All slots are taken, the caller holds its share of them, or the backlog is too long for the
                deadline.
            DeadlineExceeded: The deadline is too early even without other requests.
            Unavailable: The service is starting or stopping.
            Cancelled: The request was cancelled while it waited.
        """
        route = Route.of(self.cascade, work, work.neighbors)
        with self._changed:
            self._refuse_unless_ready()
            request = new_request(handle, work, route, self.times)
            if work.priority is Priority.BACKGROUND:
                self._slots.wait(request)
            else:
                try:
                    self._slots.take(request)
                except ReimagenError:
                    self._tally.count(refused=1)
                    raise
        try:
            if work.priority is Priority.BACKGROUND:
                handle.wait_for_admission()
            yield Admission(self, request)
        except BaseException as error:
            with self._changed:
                if not request.queued:
                    self._tally.ended(error)
            raise
        finally:
            handle.cancel()
            with self._changed:
                self._slots.leave(request)
                self._changed.notify_all()

    def _refuse_unless_ready(self) -> None:
        if self._state is not State.READY:
            raise Unavailable(f"the service is {self._state.value}; try again soon", retry_after=5)

    def queue(self, request: Request, task: GenerationTask) -> None:
        """Queue the images of an admitted request."""
        request.handle.queued_at = time.monotonic()
        route = Route.of(self.cascade, request.work, len(task.neighbors))
        self._compile(route)
        rows = [ImageRow(self._device, request, task, index, route) for index in range(len(task.seeds))]
        with self._changed:
            request.seconds_left = seconds_left(route, self.times)
            request.rows = rows
            request.queued = True
            request.measure()
            for row in rows:
                self._scheduler.add(row)
            self._changed.notify_all()

    def _compile(self, route: Route) -> None:
        """Compile steps that are needed for the first time, on the request's thread: other requests go on meanwhile.

        The number of kinds is small, but to compile all of them would make each start take minutes.
        """
        with self._compiling:
            for kind in (kind for stage in route.stages for kind in stage.kinds):
                if kind not in self.times:
                    started = time.monotonic()
                    measured, start = compile_steps(self._device, kind, self.times.sizes(kind.stage))
                    with self._changed:
                        self.times.add(kind, measured)
                        self.times.started(kind, start)
                    seconds = round(time.monotonic() - started, 1)
                    _logger.info("an unusual step is compiled", extra=asdict(kind) | {"seconds": seconds})

    def _backlog_seconds(self) -> float:
        with self._changed:
            return Backlog.of(self._slots).seconds

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or any(True for _ in self._scheduler.rows()))
                if self._stopped:
                    return
                self._end_cancelled()
                batch = self._scheduler.next_batch()
            self._turns.take(batch)

    def _end_cancelled(self) -> None:
        """End requests that were cancelled or are past their deadline; the caller holds the lock."""
        for request in {row.request for row in self._scheduler.rows()}:
            try:
                request.handle.check()
            except (Cancelled, DeadlineExceeded) as error:
                self._turns.end(request, error)
