"""What a request for images used: tokens as OpenAI's clients count them, sampling steps and network evaluations."""

import math
import re
from dataclasses import dataclass
from typing import Final

from reimagen_generator.diffusion.events import StepEvent
from reimagen_generator.generation.retriever_client import Neighbors
from reimagen_generator.generation.service import Event, Image

TOKEN_SIDE: Final = 16
"""Side in pixels of the square that counts as one token of an image."""

_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class Usage:
    """What a request has used so far."""

    text_tokens: int = 0
    """Number of words in the prompt and in the captions of the neighbors."""
    input_image_tokens: int = 0
    """Number of squares of 16 pixels in the neighbors, at the size of the cascade's first stage."""
    output_image_tokens: int = 0
    """Number of squares of 16 pixels in the finished images."""
    steps: int = 0
    """Number of sampling steps of all stages, summed over the finished images."""
    evaluations: int = 0
    """Number of evaluations of the networks for those steps."""


class UsageMeter:
    """A counter of what the events of one request stand for."""

    def __init__(self, prompt: str, *, first_size: int) -> None:
        """Start at nothing.

        Args:
            prompt: The prompt of the request.
            first_size: Side of the images of the cascade's first stage, in pixels.
        """
        self._texts = [prompt]
        self._input_images = 0
        self._tokens_of_neighbor = _image_tokens(first_size)
        self._output_tokens = 0
        self._steps = self._evaluations = 0
        # Of the batch that is being drawn, for each of its images.
        self._batch_steps = self._batch_evaluations = 0
        self._batch_is_finished = False

    def add(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Neighbors():
                seen = [neighbor for neighbor in event.neighbors if neighbor.weight]
                self._texts += [neighbor.caption for neighbor in seen]
                self._input_images += len(seen)
            case StepEvent():
                if self._batch_is_finished:
                    self._batch_steps = self._batch_evaluations = 0
                    self._batch_is_finished = False
                self._batch_steps += 1
                self._batch_evaluations += event.evaluations
            case Image():
                self._batch_is_finished = True
                self._output_tokens += _image_tokens(event.size)
                self._steps += self._batch_steps
                self._evaluations += self._batch_evaluations

    @property
    def usage(self) -> Usage:
        """What was used so far. Steps count once their image is finished."""
        return Usage(
            text_tokens=sum(len(_WORD.findall(text)) for text in self._texts),
            input_image_tokens=self._input_images * self._tokens_of_neighbor,
            output_image_tokens=self._output_tokens,
            steps=self._steps,
            evaluations=self._evaluations,
        )


def _image_tokens(side: int) -> int:
    return math.ceil(side / TOKEN_SIDE) ** 2
