"""Measured phases of a start: the seconds of each are logged and in the metrics."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from reimagen_generator import metrics

# JAX's event of a compilation, or of reading compiled code from the cache.
_COMPILED = "/jax/core/compile/backend_compile_duration"

_logger = logging.getLogger(__name__)


@contextmanager
def measured(phase: str) -> Iterator[None]:
    """Measure a phase: fetch or load."""
    began = time.monotonic()
    yield
    _report(phase, time.monotonic() - began)


@contextmanager
def measured_warm_up() -> Iterator[None]:
    """Measure the phases compile and warm_up, which alternate; what the compiler takes counts as compile."""
    compiled = 0.0

    def add(event: str, duration_secs: float, **kwargs: str | int) -> None:
        nonlocal compiled
        compiled += duration_secs if event == _COMPILED else 0.0

    began = time.monotonic()
    jax.monitoring.register_event_duration_secs_listener(add)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(add)
    _report("compile", compiled)
    _report("warm_up", time.monotonic() - began - compiled)


def _report(phase: str, seconds: float) -> None:
    metrics.START_SECONDS.labels(phase).set(seconds)
    _logger.info("a phase of the start has ended", extra={"phase": phase, "seconds": round(seconds, 1)})
