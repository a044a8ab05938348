"""Turns of the engine: one step of each image of a batch, and what becomes of the requests."""

import logging
import threading
import time

from reimagen_common import tracing
from reimagen_common.errors import ReimagenError, Unavailable
from reimagen_generator import metrics
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.engine.counters import Tally
from reimagen_generator.engine.device import Device
from reimagen_generator.engine.image_row import Advanced, ImageRow, Request
from reimagen_generator.engine.orders import TakeStep
from reimagen_generator.engine.scheduler import Scheduler
from reimagen_generator.engine.step_times import StepTimes

_logger = logging.getLogger(__name__)


class Turns:
    """Takes steps on the engine's thread, posts their events, and ends requests."""

    def __init__(
        self,
        device: Device,
        times: StepTimes,
        scheduler: Scheduler[ImageRow],
        tally: Tally,
        lock: threading.Condition,
    ) -> None:
        """Create turns.

        Args:
            device: The device that draws.
            times: Where measured times are added.
            scheduler: The scheduler, which loses finished images.
            tally: Where steps and ends are counted.
            lock: The engine's lock, which guards the others and the requests.
        """
        self._device = device
        self._times = times
        self._scheduler = scheduler
        self._tally = tally
        self._lock = lock

    def take(self, batch: list[ImageRow]) -> None:
        """Take one step of each image of a batch. Any error ends only requests of the batch."""
        try:
            self._take_step(batch)
        except Exception as error:  # noqa: BLE001  (posted to the requests)
            # The thread must survive any error: other requests are not affected.
            for row in batch:
                self._fail(row.request, error)

    def _take_step(self, batch: list[ImageRow]) -> None:
        """Take one step of each image of a batch, and post the events. A failure ends only the request that fails."""
        started = time.monotonic()
        kind = batch[0].kind
        rows = self._begin(batch, started)
        if not rows:
            return
        size = self._times.batch_size(kind, len(rows))
        filled = [*rows, *[rows[-1]] * (size - len(rows))]
        began = time.monotonic()
        try:
            numbers, steps = [row.number for row in filled], [row.steps for row in filled]
            self._device.execute(TakeStep(kind.stage, numbers, steps, kind.evaluations))
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
        metrics.STEP_SECONDS.labels(self._device.cascade.sizes[kind.stage], size).observe(now - began)
        with self._lock:
            self._times.measured(kind, len(rows), now - began)
            self._scheduler.charge(rows, now - started)
        for row in rows:
            if row in row.request.rows:
                self._accept_step(row, now - began, len(rows))

    def _begin(self, batch: list[ImageRow], now: float) -> list[ImageRow]:
        """Begin stages of a batch's images where needed; return the images whose requests have not failed."""
        begun: list[ImageRow] = []
        for row in batch:
            self._begin_request(row.request, now)
            try:
                if row.starts_stage:
                    self._begin_stage(row)
                begun.append(row)
            except Exception as error:  # noqa: BLE001  (posted to the request)
                self._fail(row.request, error)
        return [row for row in begun if row in row.request.rows]

    def _begin_stage(self, row: ImageRow) -> None:
        """Begin a row's stage, and measure that."""
        began = time.monotonic()
        attributes = {"stage": row.kind.stage, "size": self._device.cascade.sizes[row.kind.stage], "image": row.index}
        row.span = row.request.handle.context.run(tracing.begin, "stage", attributes)
        row.begin_stage()
        with self._lock:
            self._times.started(row.kind, time.monotonic() - began)

    def _accept_step(self, row: ImageRow, seconds: float, batch: int) -> None:
        """Accept a step, which a batch of that many images took in that many seconds."""
        request = row.request
        try:
            result = row.advance()
        except Exception as error:  # noqa: BLE001  (posted to the request)
            self._fail(request, error)
            return
        _record(result)
        event = result.event
        row.span.record(
            "step",
            seconds,
            {"stage": event.stage, "step": event.step, "evaluations": event.evaluations, "batch": batch},
        )
        if result.stage_seconds is not None:
            row.span.end()
        request.handle.post(result.event)
        with self._lock:
            self._tally.count(steps=1)
            if result.image is not None:
                self._scheduler.remove(row)
                request.rows.remove(row)
            request.measure()
            if result.image is None:
                return
            if not request.rows:
                self._tally.count(finished=1)
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
        reason: Exception = error
        if not isinstance(error, Unavailable):
            reason = ReimagenError(f"drawing failed; the service's log has the reason under {request.handle.id}")
        with self._lock:
            self.end(request, reason)

    def end(self, request: Request, error: Exception) -> None:
        """Remove a request's images from the queue and post the reason; the caller holds the lock."""
        if not request.rows:
            return  # Another of its images has already ended it.
        for row in request.rows:
            self._scheduler.remove(row)
            row.span.end()
            row.forget()
        metrics.STEPS_CANCELLED.inc(sum(row.left for row in request.rows))
        request.rows = []
        request.measure()
        self._tally.ended(error)
        request.handle.post(error)


def _record(result: Advanced) -> None:
    """Add a step to the metrics."""
    event = result.event
    metrics.STEPS.labels(event.size).inc()
    metrics.EVALUATIONS.labels(event.size).inc(event.evaluations)
    if result.stage_seconds is not None:
        metrics.STAGE_SECONDS.labels(event.size).observe(result.stage_seconds)
    if result.image is not None:
        metrics.IMAGES.labels(event.size).inc()
