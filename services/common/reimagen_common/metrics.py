"""The metrics of every server of ours, in the form that Prometheus scrapes.

Labels take few values, all of them known beforehand: no ids, prompts, addresses or unknown paths, of which each would
be a time series forever.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# When each series began would be half as many series again.
disable_created_metrics()  # type: ignore[no-untyped-call]

# A cached search takes a millisecond, an image at full size minutes.
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

GRPC_SECONDS: Final = Histogram(
    "reimagen_grpc_call_seconds",
    "Seconds from a call's first work to its end; a call that was refused for overload counts too.",
    ["method", "code"],
    buckets=SECONDS,
)
GRPC_IN_FLIGHT: Final = Gauge("reimagen_grpc_calls_in_flight", "Calls that were accepted and have not ended.")
HTTP_SECONDS: Final = Histogram(
    "reimagen_http_request_seconds",
    "Seconds from a request's headers to the last byte of its answer.",
    ["method", "route", "status"],
    buckets=SECONDS,
)
HTTP_IN_FLIGHT: Final = Gauge("reimagen_http_requests_in_flight", "Requests whose answers have not ended.")
OVERLOADED: Final = Counter(
    "reimagen_overload_refusals_total", "Calls and requests that were refused because too many were waiting.", ["face"]
)
