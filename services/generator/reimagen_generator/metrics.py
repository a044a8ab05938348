"""The generator's own metrics; those of its calls and requests are in reimagen_common.metrics."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# A step of a small stage takes milliseconds, a stage of the largest cascade on a CPU minutes.
_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

QUEUE_LENGTH: Final = Gauge(
    "reimagen_generator_queue_length", "Calls that hold a place: the one that is drawn and those that wait."
)
QUEUE_SECONDS: Final = Histogram(
    "reimagen_generator_queue_seconds", "Seconds that a drawing waited for the engine.", buckets=_SECONDS
)
CALLS: Final = Counter(
    "reimagen_generator_calls_total",
    "Calls by their end: finished, failed, cancelled, deadline_exceeded, or refused as every place was taken.",
    ["outcome"],
)
IMAGES: Final = Counter("reimagen_generator_images_total", "Images drawn, by their side in pixels.", ["size"])
STEPS: Final = Counter("reimagen_generator_steps_total", "Steps done, by the side of their stage's images.", ["size"])
EVALUATIONS: Final = Counter(
    "reimagen_generator_evaluations_total",
    "Images that a stage's network was evaluated for: as many a step as the batch has images, times one, two or "
    "three as the guidance says.",
    ["size"],
)
STEPS_CANCELLED: Final = Counter(
    "reimagen_generator_steps_cancelled_total", "Steps that were spared since the caller had gone or its time was up."
)
STAGE_SECONDS: Final = Histogram(
    "reimagen_generator_stage_seconds",
    "Seconds that a stage took for a batch of images; the first one's include the encoding of the texts.",
    ["size"],
    buckets=_SECONDS,
)
ENCODE_SECONDS: Final = Histogram(
    "reimagen_generator_encode_seconds", "Seconds that writing an image's file took.", buckets=_SECONDS
)
