"""Requests to an engine, on threads of their own, as each API makes them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.diffusion.options import DrawingOptions, GuidanceOptions, StepOptions, resolve
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.work import GenerationTask, Priority, Work
from tests.waiting import SECONDS

NO_CHANGES = GuidanceOptions()
OWN_STEPS = StepOptions()
FOREVER = 1e6


class MakeEngine(Protocol):
    def __call__(self, cascade: Cascade, *, capacity: int = 4, largest_batch: int = 1) -> Engine: ...


@dataclass(frozen=True)
class Wish:
    """What a request asks for."""

    prompt: str = "a red panda"
    neighbors: Sequence[ReferencePair] = ()
    seeds: Sequence[int] = (7,)
    size: int = 16
    previews: int = 0
    guidance: GuidanceOptions = NO_CHANGES
    steps_factor: float = 1.0
    steps: StepOptions = OWN_STEPS
    negative_prompt: str | None = None
    caller: str = ""
    priority: Priority = Priority.INTERACTIVE

    def work(self, cascade: Cascade) -> Work:
        settings = resolve(cascade.config, DrawingOptions(self.guidance, self.steps), self.size)
        return Work(
            images=len(self.seeds),
            size=self.size,
            neighbors=len(self.neighbors),
            guidance=[stage.guidance for stage in settings],
            steps_factor=self.steps_factor,
            steps=[stage.steps for stage in settings],
            caller=self.caller,
            priority=self.priority,
        )

    @property
    def task(self) -> GenerationTask:
        return GenerationTask(self.prompt, self.neighbors, self.seeds, self.previews, self.negative_prompt)


class Background:
    """A request on a thread of its own, as each API makes it."""

    def __init__(self, engine: Engine, wish: Wish, *, timeout: float = FOREVER) -> None:
        self.call = RequestHandle(timeout=timeout)
        self.admitted = threading.Event()
        self.stepped = threading.Event()
        self.ahead = -1
        self.events: list[StepEvent | ImagesEvent] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(engine, wish))
        self._thread.start()

    def _run(self, engine: Engine, wish: Wish) -> None:
        try:
            with engine.admit(self.call, wish.work(engine.cascade)) as admission:
                self.ahead = admission.ahead
                self.admitted.set()
                for event in admission.draw(wish.task):
                    self.events.append(event)
                    self.stepped.set()
        except Exception as error:  # noqa: BLE001  (looked at by the test)
            self.error = error
        finally:
            self.admitted.set()
            self.stepped.set()

    def end(self) -> "Background":
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        return self

    def images(self) -> npt.NDArray[np.uint8]:
        """All images, in the order of the seeds."""
        self.end()
        assert self.error is None
        finished = {event.index: event.images for event in self.events if isinstance(event, ImagesEvent)}
        return np.concatenate([finished[index] for index in range(len(finished))])


def images(engine: Engine, wish: Wish) -> npt.NDArray[np.uint8]:
    return Background(engine, wish).images()
