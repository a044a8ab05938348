"""What a request for images changes of the cascade's stages."""

from reimagen_generator.diffusion.options import DrawingOptions, GuidanceOptions, StageOptions, StepOptions
from reimagen_generator.generation.request import GenerationRequest
from reimagen_generator.generation.request_parts import Guidance


def drawing_options(request: GenerationRequest) -> DrawingOptions:
    """Return the changes that a request makes to the stages, apart from its `quality`."""
    return DrawingOptions(
        _guidance(request.guidance),
        StepOptions(request.steps, request.sampler),
        tuple(
            StageOptions(stage.size, StepOptions(stage.steps, stage.sampler), _guidance(stage.guidance))
            for stage in request.stages
        ),
    )


def _guidance(guidance: Guidance) -> GuidanceOptions:
    return GuidanceOptions(**guidance.model_dump())
