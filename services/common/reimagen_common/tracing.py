"""Trace requests through both services with OpenTelemetry.

If OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is set, traces are sent there over gRPC.
OpenTelemetry's other variables apply too. Otherwise OpenTelemetry is not imported, and these functions do nothing.
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


class OpenSpan:
    """A span that was begun and ends later, on any thread; see `begin`."""

    def __init__(self, span: Any = None) -> None:
        """Wrap a span of OpenTelemetry; None records nothing."""
        self._span = span

    def record(self, name: str, seconds: float, attributes: Attributes | None = None) -> None:
        """Record a child that ends now and began `seconds` ago."""
        if self._span is None or _tracer is None:
            return
        from opentelemetry.trace import set_span_in_context

        now = time.time_ns()
        start, parent = now - round(seconds * 1e9), set_span_in_context(self._span)
        _tracer.start_span(name, context=parent, start_time=start, attributes=attributes).end(now)

    def end(self) -> None:
        """End the span, if it has not ended."""
        if self._span is not None:
            self._span.end()
            self._span = None


def start_tracing(service: str, exporter: Any = None) -> None:
    """Start to send the spans of this process, if an endpoint is set.

    Args:
        service: The name of the service in the traces. OTEL_SERVICE_NAME overrides it.
        exporter: An exporter of OpenTelemetry to send them to in place of the endpoint.
    """
    global _provider, _tracer
    if exporter is None and not any(os.environ.get(name) for name in _ENDPOINTS):
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or service})
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    _tracer = _provider.get_tracer("reimagen")


def stop_tracing() -> None:
    """Send the remaining spans and stop."""
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


def span(name: str, attributes: Attributes | None = None) -> AbstractContextManager[object]:
    """Return a context manager that records a span of the current request."""
    if _tracer is None:
        return _NOTHING
    span_: AbstractContextManager[object] = _tracer.start_as_current_span(name, attributes=attributes)
    return span_


def serving(name: str, headers: Mapping[str, str], attributes: Attributes) -> AbstractContextManager[object]:
    """Return a context manager that records the span of a whole request as part of the client's trace.

    Args:
        name: The gRPC method, or the HTTP method and route.
        headers: The headers of the request with lower-case names. W3C's `traceparent` and `tracestate` are read.
        attributes: The initial attributes.
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
        # Errors become responses, and `annotate` sets the status.
        record_exception=False,
        set_status_on_exception=False,
    )
    return span_


def calling(name: str) -> AbstractContextManager[object]:
    """Return a context manager that records a request to another service. Pass `metadata()` along inside it."""
    if _tracer is None:
        return _NOTHING
    from opentelemetry.trace import SpanKind

    span_: AbstractContextManager[object] = _tracer.start_as_current_span(name, kind=SpanKind.CLIENT)
    return span_


def metadata() -> list[tuple[str, str]]:
    """Return the gRPC metadata that makes another service's span a child of the current span."""
    if _tracer is None:
        return []
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return list(carrier.items())


def annotate(attributes: Attributes, *, name: str | None = None, failed: bool = False) -> None:
    """Add attributes to the current span, and optionally rename it or mark it as failed."""
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
    """Record a span of the current request that ends now and began `seconds` ago."""
    if _tracer is None:
        return
    now = time.time_ns()
    _tracer.start_span(name, start_time=now - round(seconds * 1e9), attributes=attributes).end(now)


def begin(name: str, attributes: Attributes | None = None) -> OpenSpan:
    """Begin a span of the current request, which does not become the current span."""
    return OpenSpan(None if _tracer is None else _tracer.start_span(name, attributes=attributes))


def trace_id() -> str | None:
    """Return the id of the current trace as 32 hexadecimal digits, or None."""
    if _tracer is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None
