"""What `GenerationService` and the APIs need of a backend, which draws the images."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from reimagen_generator.config.cascade import Guidance, SamplerKind
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.state import State
from reimagen_generator.engine.work import GenerationTask, Priority
from reimagen_generator.generation.request import GenerationRequest


@dataclass(frozen=True)
class StageDescription:
    """A stage of the cascade that a backend draws with."""

    size: int
    """Side of the stage's images in pixels."""
    parameters: int
    """Number of parameters of the network."""
    retrieval_conditioned: bool
    """Whether the network has neighbors as input."""
    guided: bool
    """Whether a request's guidance of all stages applies to it."""
    steps: int
    """Number of sampling steps."""
    sampler: SamplerKind
    """Sampler of the stage."""
    guidance: Guidance
    """Guidance of the stage."""


@dataclass(frozen=True)
class ModelDescription:
    """The model that a backend draws with, and its limits."""

    name: str
    """Name of the model."""
    sizes: tuple[int, ...]
    """Sides of the images that it draws, in pixels and in increasing order."""
    default_k: int
    """Number of neighbors of a request that does not set k."""
    maximum_k: int
    """Maximum number of neighbors of a request."""
    relevant_only: bool = False
    """Whether neighbors that name nothing further of the prompt are left out."""
    stages: tuple[StageDescription, ...] = ()
    """Stages of the cascade; none if the model is not a cascade."""
    unsupported: frozenset[str] = frozenset()
    """Fields of `GenerationRequest` that must keep their defaults."""

    @property
    def has_seeds(self) -> bool:
        """Whether a seed draws the same image again."""
        return "seed" not in self.unsupported


class Admission(Protocol):
    """A request's slot in a backend."""

    @property
    def ahead(self) -> int:
        """Number of requests that were admitted before it and have not ended."""
        ...

    def draw(self, task: GenerationTask) -> Iterator[StepEvent | ImagesEvent]:
        """Draw the images, and yield the finished steps and the finished images.

        The iterator raises:
            Cancelled: The client has gone.
            DeadlineExceeded: The deadline has passed.
            ReimagenError: Drawing failed.
        """
        ...


class Backend(Protocol):
    """A model with a bounded number of slots, each for a request that it draws."""

    @property
    def model(self) -> ModelDescription:
        """The model and its limits."""
        ...

    @property
    def state(self) -> State:
        """Whether requests are admitted now."""
        ...

    @property
    def slots(self) -> int:
        """Maximum number of admitted requests."""
        ...

    def start(self) -> None:
        """Make ready, which may take minutes, then admit requests."""
        ...

    def stop(self, grace: float) -> None:
        """Stop admitting, wait up to `grace` seconds for admitted requests to end, then cancel the rest."""
        ...

    def check(self, request: GenerationRequest, size: int) -> None:
        """Check the fields that the model's limits do not cover.

        Raises:
            InvalidArgument: The model does not support a field's value.
        """
        ...

    def refuse_if_full(self) -> None:
        """Raise the error with which `admit` would refuse any request now.

        Raises:
            Overloaded: All slots are taken.
            Unavailable: The service is starting or stopping.
        """
        ...

    def admit(
        self, handle: RequestHandle, request: GenerationRequest, *, size: int, neighbors: int, priority: Priority
    ) -> AbstractContextManager[Admission]:
        """Hold a slot for the request of the current caller; leaving the context cancels the request's work.

        An interactive request is refused at once if it cannot be admitted. A background request waits for a slot, and
        its deadline counts from its admission.

        Args:
            handle: The deadline and cancellation of the request.
            request: The request.
            size: Side of its images in pixels.
            neighbors: Maximum number of its neighbors.
            priority: How it shares the backend with other requests.

        Raises:
            InvalidArgument: The model does not support a field's value.
            Overloaded: All slots are taken, or the caller holds its share of them, or the deadline is too early
                because of other requests.
            DeadlineExceeded: The deadline is too early even without other requests.
            Unavailable: The service is starting or stopping.
        """
        ...
