"""The backend that draws with a cascade on this machine's accelerator."""

from collections.abc import Iterator
from contextlib import contextmanager

from reimagen_common.access.caller import current_caller
from reimagen_common.errors import Unavailable
from reimagen_generator.diffusion.options import StageSettings, resolve
from reimagen_generator.engine.engine import Admission, Engine
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.state import State
from reimagen_generator.engine.work import Priority, Work
from reimagen_generator.generation.backend import ModelDescription, StageDescription
from reimagen_generator.generation.options import drawing_options
from reimagen_generator.generation.request import STEPS_FACTORS, GenerationRequest


class CascadeBackend:
    """A `Backend` that converts requests to the work of an engine."""

    def __init__(self, engine: Engine) -> None:
        """Describe the cascade of an engine, which this backend starts and stops."""
        self.engine = engine
        cascade = engine.cascade
        config = cascade.config
        self.model = ModelDescription(
            name=config.name,
            sizes=cascade.sizes,
            default_k=config.default_k,
            maximum_k=config.maximum_k,
            relevant_only=config.relevant_only,
            stages=tuple(
                StageDescription(
                    size=stage.size,
                    parameters=parameters,
                    retrieval_conditioned=stage.network.retrieval,
                    guided=stage.network.guided,
                    steps=stage.steps,
                    sampler=stage.sampler,
                    guidance=stage.guidance,
                )
                for stage, parameters in zip(config.stages, cascade.parameters, strict=True)
            ),
        )

    @property
    def state(self) -> State:
        """Whether requests are admitted now."""
        return self.engine.state

    @property
    def slots(self) -> int:
        """Maximum number of requests in the engine."""
        return self.engine.slots

    def start(self) -> None:
        """Compile the cascade, which may take minutes the first time, then admit requests."""
        self.engine.start()

    def stop(self, grace: float) -> None:
        """Stop admitting, wait up to `grace` seconds for admitted requests to end, then cancel the rest."""
        self.engine.stop(grace)

    def fail(self, error: Unavailable) -> None:
        """End all requests with an error, see `Engine.fail`."""
        self.engine.fail(error)

    def check(self, request: GenerationRequest, size: int) -> None:
        """Check the changes of the stages.

        Raises:
            InvalidArgument: A stage does not exist, or cannot follow a change.
        """
        self._settings(request, size)

    def refuse_if_full(self) -> None:
        """Raise the error with which `admit` would refuse any request now.

        Raises:
            Overloaded: All slots are taken.
            Unavailable: The service is starting or stopping.
        """
        self.engine.refuse_if_full()

    @contextmanager
    def admit(
        self, handle: RequestHandle, request: GenerationRequest, *, size: int, neighbors: int, priority: Priority
    ) -> Iterator[Admission]:
        """Hold a slot in the engine, see `Backend.admit` and `Engine.admit`."""
        settings = self._settings(request, size)
        work = Work(
            images=request.n,
            size=size,
            neighbors=neighbors,
            guidance=[stage.guidance for stage in settings],
            steps_factor=STEPS_FACTORS[request.quality],
            steps=[stage.steps for stage in settings],
            caller=current_caller().id,
            priority=priority,
        )
        with self.engine.admit(handle, work) as admission:
            yield admission

    def _settings(self, request: GenerationRequest, size: int) -> tuple[StageSettings, ...]:
        return resolve(self.engine.cascade.config, drawing_options(request), size)
