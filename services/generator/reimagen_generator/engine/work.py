"""What a request asks of the engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from reimagen_generator.config.cascade import Guidance
from reimagen_generator.diffusion.options import StepOptions
from reimagen_generator.diffusion.references import ReferencePair


class Priority(IntEnum):
    """How a request shares the accelerator with others."""

    BACKGROUND = 0
    """Jobs that nobody waits for: a quarter of the share of interactive requests."""
    INTERACTIVE = 1


@dataclass(frozen=True)
class Work:
    """The amount of work of a request, known before its neighbors are."""

    images: int
    """Number of images."""
    size: int
    """Side of the images in pixels."""
    neighbors: int
    """Maximum number of neighbors."""
    guidance: Sequence[Guidance]
    """Guidance of each stage up to the size."""
    steps_factor: float = 1.0
    """Factor by which each stage's own steps are multiplied."""
    steps: Sequence[StepOptions] = ()
    """Changes of the steps of each stage up to the size; empty if there are none."""
    caller: str = ""
    """Id of the caller's API key; callers share the accelerator equally."""
    priority: Priority = Priority.INTERACTIVE


@dataclass(frozen=True)
class GenerationTask:
    """What to draw for one request: one image for each seed."""

    prompt: str
    neighbors: Sequence[ReferencePair]
    seeds: Sequence[int]
    previews: int = 0
    """Number of previews of the first image."""
    negative_prompt: str | None = None
    """Text that guidance leads away from, in place of no text."""
