"""The programs of the presets: which of them run, and how often."""

import pytest

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.presets import PRESETS
from reimagen_generator.diffusion import guidance, schedule

PAPER, FAST = PRESETS["re-imagen"], PRESETS["re-imagen-fast"]


def evaluations(config: CascadeConfig) -> list[int]:
    """Return the evaluations of a network for an image, by stage."""
    counts = []
    for stage in config.stages:
        full = guidance.resolve(stage.guidance, neighbors=stage.network.retrieval).evaluations
        guided = int(guidance.guided_steps(stage.guidance, schedule.sampling_schedule(stage).log_snr[:-1]).sum())
        counts.append(full * guided + stage.steps - guided)
    return counts


def test_the_fast_preset_draws_with_the_same_networks_and_steps() -> None:
    for paper, fast in zip(PAPER.stages, FAST.stages, strict=True):
        free = fast.guidance.model_copy(update={"interval": None})
        assert fast.model_copy(update={"guidance": free}) == paper


@pytest.mark.parametrize(("config", "expected"), [(PAPER, [512, 256, 64]), (FAST, [437, 219, 48])])
def test_the_fast_preset_evaluates_less(config: CascadeConfig, expected: list[int]) -> None:
    assert evaluations(config) == expected
