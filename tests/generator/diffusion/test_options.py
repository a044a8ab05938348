"""Changes of a request, and which of them a cascade refuses."""

from typing import Any

import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_generator.config.cascade import Guidance, SamplerKind, ScheduleKind, Strategy
from reimagen_generator.config.presets import DEMO, TINY
from reimagen_generator.diffusion.options import DrawingOptions, GuidanceOptions, StageOptions, StepOptions, resolve

GUIDED = TINY.model_copy(
    update={
        "stages": (
            TINY.stages[0].model_copy(update={"guidance": Guidance(text_weight=2.0, neighbor_weight=2.0)}),
            TINY.stages[1].model_copy(
                update={
                    "schedule": ScheduleKind.COSINE_BETAS,
                    "steps": 30,
                    "timestep_respacing": (20, 0, 10, 0),
                    "guidance": Guidance(strategy=Strategy.JOINT, text_weight=3.0),
                }
            ),
            TINY.stages[2],
        )
    }
)
"""Two stages that see neighbors, of which the second has few timesteps, and one that does not."""


def test_a_stage_keeps_what_nothing_changes() -> None:
    settings = resolve(GUIDED, DrawingOptions(), 64)
    assert [each.guidance for each in settings] == [stage.guidance for stage in GUIDED.stages]
    assert [each.steps.applied_to(stage) for each, stage in zip(settings, GUIDED.stages, strict=True)] == list(
        GUIDED.stages
    )


def test_guidance_of_all_stages_leaves_out_a_stage_that_only_copies_neighbors() -> None:
    options = DrawingOptions(guidance=GuidanceOptions(text_weight=5.0))
    assert DEMO.stages[1].network.retrieval
    assert [each.guidance.text_weight for each in resolve(DEMO, options, 1024)] == [5.0, 1.0, 1.0]


def test_changes_of_one_stage_override_those_of_all() -> None:
    options = DrawingOptions(
        GuidanceOptions(text_weight=5.0),
        StepOptions(7, SamplerKind.DDPM),
        [
            StageOptions(32, StepOptions(9), GuidanceOptions(Strategy.WEIGHTED, neighbor_weight=1.5)),
            StageOptions(64, StepOptions(sampler=SamplerKind.UNIPC), GuidanceOptions(text_weight=4.0)),
        ],
    )
    first, second, third = resolve(GUIDED, options, 64)
    assert (first.guidance.text_weight, first.guidance.neighbor_weight) == (5.0, 2.0)
    assert (second.guidance.text_weight, second.guidance.neighbor_weight) == (5.0, 1.5)
    assert second.guidance.strategy is Strategy.WEIGHTED
    assert third.guidance.text_weight == 4.0
    assert [each.steps for each in (first, second, third)] == [
        StepOptions(7, SamplerKind.DDPM),
        StepOptions(9, SamplerKind.DDPM),
        StepOptions(7, SamplerKind.UNIPC),
    ]
    changed = second.steps.applied_to(GUIDED.stages[1])
    assert (changed.steps, changed.timestep_respacing, changed.sampler) == (9, (6, 0, 3, 0), SamplerKind.DDPM)


JOINT = GuidanceOptions(Strategy.JOINT)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": StepOptions(501)}, "steps"),
        ({"stages": [StageOptions(32, StepOptions(501))]}, "stages.0.steps"),
        ({"stages": [StageOptions(16), StageOptions(48)]}, "stages.1.size"),
        ({"steps": StepOptions(sampler=SamplerKind.UNIPC)}, "sampler"),
        ({"stages": [StageOptions(16, StepOptions(sampler=SamplerKind.DPM_SOLVER))]}, "stages.0.sampler"),
        (
            {
                "guidance": GuidanceOptions(Strategy.WEIGHTED),
                "steps": StepOptions(sampler=SamplerKind.UNIPC),
                "stages": [StageOptions(16, guidance=GuidanceOptions(Strategy.INTERLEAVED))],
            },
            "sampler",
        ),
        ({"stages": [StageOptions(64, guidance=JOINT)]}, "stages.0.guidance.strategy"),
        (
            {"stages": [StageOptions(64, guidance=GuidanceOptions(neighbor_weight=2.0))]},
            "stages.0.guidance.neighbor_weight",
        ),
        (
            {"stages": [StageOptions(32, guidance=GuidanceOptions(interleave_ratio=0.1))]},
            "stages.0.guidance.interleave_ratio",
        ),
        ({"guidance": GuidanceOptions(Strategy.JOINT, neighbor_weight=2.0)}, "guidance.neighbor_weight"),
    ],
)
def test_a_change_that_a_stage_cannot_follow_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        resolve(GUIDED, DrawingOptions(**changes), 64)
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")


def test_a_stage_that_is_not_drawn_is_not_checked() -> None:
    assert len(resolve(GUIDED, DrawingOptions(steps=StepOptions(501)), 16)) == 1
