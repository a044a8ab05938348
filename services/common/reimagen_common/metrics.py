"""Prometheus metrics of all servers.

Labels have few values, all known in advance: no ids, prompts, addresses or unknown paths, because each value would
create a permanent time series.
"""

from typing import Final, Literal

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from reimagen_common.errors import LimitExceeded, Overloaded, PermissionDenied, Unauthenticated

# The creation times of the series would add half as many series again.
disable_created_metrics()  # type: ignore[no-untyped-call]

# A cached search takes a millisecond, a full-size image minutes.
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

GRPC_SECONDS: Final = Histogram(
    "reimagen_grpc_call_seconds",
    "Seconds from the start of a request's processing to its end; includes requests refused for overload.",
    ["method", "code"],
    buckets=SECONDS,
)
GRPC_IN_FLIGHT: Final = Gauge("reimagen_grpc_calls_in_flight", "Requests that were accepted and have not ended.")
HTTP_SECONDS: Final = Histogram(
    "reimagen_http_request_seconds",
    "Seconds from a request's headers to the last byte of its response.",
    ["method", "route", "status"],
    buckets=SECONDS,
)
HTTP_IN_FLIGHT: Final = Gauge("reimagen_http_requests_in_flight", "Requests whose responses have not ended.")
ACCESS_REFUSALS: Final = Counter(
    "reimagen_access_refusals_total",
    "Requests that were refused because of their API key, by the code of the error: invalid_api_key, "
    "insufficient_permissions, rate_limit_exceeded, insufficient_quota.",
    ["face", "code"],
)
OVERLOADED: Final = Counter(
    "reimagen_overload_refusals_total", "Requests that were refused because too many were waiting.", ["face"]
)


def count_refusal(face: Literal["http", "grpc"], error: Exception) -> None:
    """Count an error that refuses a request before any work. Other errors are not counted."""
    if isinstance(error, Overloaded):
        OVERLOADED.labels(face).inc()
    elif isinstance(error, Unauthenticated | PermissionDenied | LimitExceeded):
        ACCESS_REFUSALS.labels(face, error.code).inc()
