"""Metrics of the generator. Those of gRPC calls and HTTP requests are in reimagen_common.metrics."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# A step of a small stage takes milliseconds; a stage of the largest cascade takes minutes on a CPU.
_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

QUEUE_LENGTH: Final = Gauge("reimagen_generator_queue_length", "Requests in the engine, drawn or waiting.")
SLOTS_USED: Final = Gauge(
    "reimagen_generator_slots_used_ratio", "Share of the slots for requests that are taken, 0 to 1."
)
REQUESTS_WAITING: Final = Gauge("reimagen_generator_requests_waiting", "Requests of jobs that wait for a slot.")
BACKLOG_SECONDS: Final = Gauge(
    "reimagen_generator_backlog_seconds", "Estimated seconds to draw everything that is admitted."
)
STEP_SECONDS: Final = Histogram(
    "reimagen_generator_step_seconds",
    "Seconds of a step of a batch, by the side of the stage's images and the batch size.",
    ["size", "batch"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
QUEUE_SECONDS: Final = Histogram(
    "reimagen_generator_queue_seconds",
    "Seconds from queueing a request's images to their first step.",
    buckets=_SECONDS,
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
    "Evaluations of a stage's network for an image: one, two or three per step, depending on the guidance.",
    ["size"],
)
STEPS_CANCELLED: Final = Counter(
    "reimagen_generator_steps_cancelled_total", "Steps skipped because of cancellation or deadline."
)
STAGE_SECONDS: Final = Histogram(
    "reimagen_generator_stage_seconds",
    "Seconds from an image's first to its last step of a stage; those of the first stage include text encoding.",
    ["size"],
    buckets=_SECONDS,
)
ENCODE_SECONDS: Final = Histogram(
    "reimagen_generator_encode_seconds", "Seconds to write an image file.", buckets=_SECONDS
)
MODERATED: Final = Counter(
    "reimagen_generator_moderated_total",
    "Prompts and pairs that the blocklist or the moderation hook judged, by kind and outcome: allowed (by the hook), "
    "refused, or failed because the hook did not answer.",
    ["kind", "outcome"],
)
JOBS_UNFINISHED: Final = Gauge("reimagen_generator_jobs_unfinished", "Jobs that are queued or running.")
JOBS: Final = Counter(
    "reimagen_generator_jobs_total", "Ended jobs by outcome: completed, failed or cancelled.", ["outcome"]
)
START_SECONDS: Final = Gauge(
    "reimagen_generator_start_seconds",
    "Seconds of each phase of the last start: fetch (weights from a store), load, compile, warm_up.",
    ["phase"],
)
