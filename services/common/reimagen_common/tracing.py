"""Traces of a request through both services, sent to an OpenTelemetry collector.

They are on where OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is set, and are sent there over
gRPC; OpenTelemetry's other variables count too. Where it is not set nothing of OpenTelemetry is even imported, and the
functions here do nothing.
"""

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NOTHING: Final = nullcontext()

Attributes = Mapping[str, str | int | float | bool]

_provider: Any = None
_tracer: Any = None


def start_tracing(service: str) -> None:
    """Begins to send this process's spans, if an endpoint is set.

    Args:
        service: The service's name in the traces, unless OTEL_SERVICE_NAME says another.
    """
    global _provider, _tracer
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or service})
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("reimagen")


def stop_tracing() -> None:
    """Sends what has not been sent yet."""
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


def span(name: str, attributes: Attributes | None = None) -> AbstractContextManager[object]:
    """A part of the current request's work, which lasts as long as the context."""
    if _tracer is None:
        return _NOTHING
    span_: AbstractContextManager[object] = _tracer.start_as_current_span(name, attributes=attributes)
    return span_


def serving(name: str, headers: Mapping[str, str], attributes: Attributes) -> AbstractContextManager[object]:
    """The whole of a request's work here, as part of its caller's trace.

    Args:
        name: The method, or the request's method and route.
        headers: What the caller sent; W3C's `traceparent` and `tracestate` are read, their names in small letters.
        attributes: What is known at the start.
    """
    if _tracer is None:
        return _NOTHING
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    span_: AbstractContextManager[object] = _tracer.start_as_current_span(
        name,
        context=TraceContextTextMapPropagator().extract(headers),
        kind=SpanKind.SERVER,
        attributes=attributes,
        # An error becomes an answer: its status is set by `annotate`.
        record_exception=False,
        set_status_on_exception=False,
    )
    return span_


def calling(name: str) -> AbstractContextManager[object]:
    """A call of another service; `metadata`, asked within, makes the other's span a part of it."""
    if _tracer is None:
        return _NOTHING
    from opentelemetry.trace import SpanKind

    span_: AbstractContextManager[object] = _tracer.start_as_current_span(name, kind=SpanKind.CLIENT)
    return span_


def metadata() -> list[tuple[str, str]]:
    """The gRPC metadata that makes another service's work a part of the current span."""
    if _tracer is None:
        return []
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return list(carrier.items())


def annotate(attributes: Attributes, *, name: str | None = None, failed: bool = False) -> None:
    """Adds to the current span what was learned on the way: attributes, another name, that it failed."""
    if _tracer is None:
        return
    from opentelemetry.trace import StatusCode, get_current_span

    current = get_current_span()
    current.set_attributes(attributes)
    if name:
        current.update_name(name)
    if failed:
        current.set_status(StatusCode.ERROR)


def record(name: str, seconds: float, attributes: Attributes | None = None) -> None:
    """A part of the current request's work that ends now and began so many seconds ago."""
    if _tracer is None:
        return
    now = time.time_ns()
    _tracer.start_span(name, start_time=now - round(seconds * 1e9), attributes=attributes).end(now)


def trace_id() -> str | None:
    """The current trace's id, as 32 hexadecimal digits, if there is one."""
    if _tracer is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None
