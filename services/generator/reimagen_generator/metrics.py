"""Metrics of the generator. Those of gRPC calls and HTTP requests are in reimagen_common.metrics."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# A step of a small stage takes milliseconds; a stage of the largest cascade takes minutes on a CPU.
_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

QUEUE_LENGTH: Final = Gauge(
    "reimagen_generator_queue_length", "Requests in the engine: the one being drawn and those waiting."
)
QUEUE_SECONDS: Final = Histogram(
    "reimagen_generator_queue_seconds", "Seconds that a generation task waited for the engine.", buckets=_SECONDS
)
CALLS: Final = Counter(
    "reimagen_generator_calls_total",
    "Requests by outcome: finished, failed, cancelled, deadline_exceeded, or refused because the queue was full.",
    ["outcome"],
)
IMAGES: Final = Counter("reimagen_generator_images_total", "Images drawn, by their side in pixels.", ["size"])
STEPS: Final = Counter(
    "reimagen_generator_steps_total", "Finished sampling steps, by the side of the stage's images.", ["size"]
)
EVALUATIONS: Final = Counter(
    "reimagen_generator_evaluations_total",
    "Images for which a stage's network was evaluated: per step, the batch's images times one, two or three, depending "
    "on the guidance.",
    ["size"],
)
STEPS_CANCELLED: Final = Counter(
    "reimagen_generator_steps_cancelled_total", "Steps skipped because of cancellation or deadline."
)
STAGE_SECONDS: Final = Histogram(
    "reimagen_generator_stage_seconds",
    "Seconds that a stage took for a batch of images; those of the first stage include text encoding.",
    ["size"],
    buckets=_SECONDS,
)
ENCODE_SECONDS: Final = Histogram(
    "reimagen_generator_encode_seconds", "Seconds to write an image file.", buckets=_SECONDS
)
JOBS_UNFINISHED: Final = Gauge("reimagen_generator_jobs_unfinished", "Jobs that are queued or running.")
JOBS: Final = Counter(
    "reimagen_generator_jobs_total", "Ended jobs by outcome: completed, failed or cancelled.", ["outcome"]
)
