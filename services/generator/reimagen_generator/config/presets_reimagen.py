"""Re-Imagen at the paper's size (arXiv 2209.14491, section 4.1), 2.5B, 750M and 400M parameters, and its small model.

The paper gives the sizes of its networks and otherwise refers to Imagen's designs (arXiv 2205.11487, appendix F). The
networks below have those sizes within 3 %.
"""

from reimagen_generator.config.cascade import (
    CascadeConfig,
    Guidance,
    Prediction,
    SamplerKind,
    ScheduleKind,
    StageConfig,
    Strategy,
)
from reimagen_generator.config.networks import ComputeType, EfficientUNetConfig, ImagenUNetConfig, LevelAttention
from reimagen_generator.config.text import T5Text

_T5_XXL_CHANNELS = 4096


def _base(width: int) -> StageConfig:
    """Return the 64 × 64 stage.

    It is Imagen's base at `width`, with attention to neighbors at the levels of 16 × 16 and 8 × 8. At 512, Imagen's
    width, it has 2478M parameters, 173M of them for the neighbors. At 384, which was chosen to match the small model's
    1.4B, it has 1419M.
    """
    widths = tuple(width * multiplier for multiplier in (1, 2, 3, 4))
    return StageConfig(
        size=64,
        network=ImagenUNetConfig(
            widths=widths,
            blocks=(3, 3, 3, 3),
            attention=(LevelAttention.NONE, *(LevelAttention.SELF_AND_TEXT,) * 3),
            neighbor_attention=(False, False, True, True),
            head_channels=64,
            text_channels=_T5_XXL_CHANNELS,
            text_width=widths[-1],
            conditioning=widths[-1],
            checkpointing=True,
            dtype=ComputeType.BFLOAT16,
        ),
        schedule=ScheduleKind.COSINE,
        prediction=Prediction.EPSILON,
        sampler=SamplerKind.DDPM,
        steps=256,
        guidance=Guidance(strategy=Strategy.INTERLEAVED, text_weight=30.0, neighbor_weight=30.0),
    )


_TO_256 = StageConfig(
    size=256,
    network=EfficientUNetConfig(
        widths=(128, 256, 512, 1024),
        blocks=(2, 4, 8, 11),
        attention=(*(LevelAttention.NONE,) * 3, LevelAttention.SELF_AND_TEXT),
        neighbor_attention=(False, False, False, True),
        head_channels=128,
        text_channels=_T5_XXL_CHANNELS,
        low_resolution=True,
        dtype=ComputeType.BFLOAT16,
    ),
    schedule=ScheduleKind.COSINE,
    prediction=Prediction.EPSILON,
    sampler=SamplerKind.DDPM,
    steps=128,
    guidance=Guidance(strategy=Strategy.JOINT, text_weight=5.0, neighbor_weight=5.0),
    augmentation=0.2,
)
"""755M parameters. Imagen's blocks, 2/4/8/8, give 601M with attention to neighbors; Imagen's own 64 → 256 model has
600M. Three more blocks at the coarsest level, which has most of the parameters, give Re-Imagen's 750M."""

_TO_1024 = StageConfig(
    size=1024,
    network=EfficientUNetConfig(
        widths=(128, 256, 512, 768),
        blocks=(2, 4, 8, 8),
        attention=(*(LevelAttention.NONE,) * 3, LevelAttention.TEXT),
        neighbor_attention=(False,) * 4,
        head_channels=128,
        text_channels=_T5_XXL_CHANNELS,
        low_resolution=True,
        dtype=ComputeType.BFLOAT16,
    ),
    schedule=ScheduleKind.LINEAR,
    prediction=Prediction.EPSILON,
    sampler=SamplerKind.DDPM,
    steps=32,
    guidance=Guidance(strategy=Strategy.JOINT, text_weight=3.0, neighbor_weight=3.0),
    augmentation=0.2,
)
"""391M parameters. Imagen's width of the coarsest level, 1024, gives 580M, far from the 400M of both papers; 768 gives
about 400M."""


def _cascade(name: str, width: int) -> CascadeConfig:
    return CascadeConfig(name=name, text_encoder=T5Text(), stages=(_base(width), _TO_256, _TO_1024))


RE_IMAGEN = _cascade("re-imagen", 512)
"""The paper's model, with the sampling of its entity benchmark."""

RE_IMAGEN_SMALL = _cascade("re-imagen-small", 384)
"""The paper's small model, whose base has 1.4B parameters."""

GUIDANCE_INTERVAL = (-3.4, 2.5)
"""The noise levels from 0.28 to 5.42 within which arXiv 2404.07724 guides Stable Diffusion XL, as log-SNRs."""


def _guided_within(stage: StageConfig, interval: tuple[float, float]) -> StageConfig:
    return stage.model_copy(update={"guidance": stage.guidance.model_copy(update={"interval": interval})})


RE_IMAGEN_FAST = RE_IMAGEN.model_copy(
    update={
        "name": "re-imagen-fast",
        "stages": tuple(_guided_within(stage, GUIDANCE_INTERVAL) for stage in RE_IMAGEN.stages),
    }
)
"""The same networks and steps, of which those outside the guidance interval evaluate a network once per image."""
