"""DeepFloyd IF, the open Imagen. `reimagen-generator import-deepfloyd` converts its weights.

IF-I-XL and IF-II-L follow the published `unet/config.json` files. IF-I-M and IF-I-L have the same shape at widths of
192 and 320. The published parameter counts are rounded: the networks have 372M (published: 400M), 935M (900M), 4305M
(4.3B) and 1243M (1.2B) parameters; the last two counts are also those of the published files. For IF-II-M, only the
count of 450M was available: the shape of IF-II-L at a width of 96 has 482M, and 458M with attention only at the
coarsest level, which was chosen. An import takes the network from the folder's own file, not from here.
"""

from reimagen_generator.config.cascade import (
    CascadeConfig,
    Guidance,
    Prediction,
    SamplerKind,
    ScheduleKind,
    StageConfig,
    Strategy,
    Thresholding,
    Upsampling,
)
from reimagen_generator.config.networks import Activation, ImagenUNetConfig, LevelAttention, TextNorm
from reimagen_generator.config.text import DroppedText, T5Text

_FINEST_RETRIEVAL = 16


def _stage_i(width: int) -> ImagenUNetConfig:
    widths = tuple(width * multiplier for multiplier in (1, 2, 3, 4))
    return ImagenUNetConfig(
        widths=widths,
        blocks=(3, 3, 3, 3),
        attention=(LevelAttention.NONE, *(LevelAttention.SELF_AND_TEXT,) * 3),
        neighbor_attention=(False,) * 4,
        head_channels=64,
        text_channels=4096,
        text_width=widths[-1],
        conditioning=widths[-1],
        activation=Activation.GELU,
        text_norm=TextNorm.GROUP,
        sees_padding=True,
        learned_variance=True,
    )


def _stage_ii(width: int, levels_with_attention: int) -> ImagenUNetConfig:
    widths = tuple(width * multiplier for multiplier in (1, 2, 4, 6, 8))
    divisor = 1 / 0.7071
    return ImagenUNetConfig(
        widths=widths,
        blocks=(2, 2, 3, 5, 5),
        attention=(
            *(LevelAttention.NONE,) * (5 - levels_with_attention),
            *(LevelAttention.SELF_AND_TEXT,) * levels_with_attention,
        ),
        neighbor_attention=(False,) * 5,
        head_channels=64,
        text_channels=4096,
        text_width=widths[-1],
        conditioning=widths[-1],
        activation=Activation.GELU,
        activate_once=True,
        text_norm=TextNorm.GROUP,
        sees_padding=True,
        residual_divisor=divisor,
        middle_divisor=divisor,
        low_resolution=True,
        learned_variance=True,
    )


def with_retrieval(network: ImagenUNetConfig, size: int) -> ImagenUNetConfig:
    """Return the network with attention to neighbors at each level that attends to text on a map of at most 16 × 16.

    Args:
        size: Side of the images. If no map is that small, the coarsest level attends to neighbors.
    """
    sides = [size // 2**level for level in range(len(network.widths))]
    largest = max(_FINEST_RETRIEVAL, sides[-1])
    levels = tuple(
        side <= largest and attention is not LevelAttention.NONE
        for side, attention in zip(sides, network.attention, strict=True)
    )
    return network.model_validate(network.model_dump() | {"neighbor_attention": levels})


def deepfloyd_cascade(name: str, stage_i: ImagenUNetConfig, stage_ii: ImagenUNetConfig | None = None) -> CascadeConfig:
    """Return a cascade of DeepFloyd IF's networks with the default sampling of diffusers' pipelines."""
    stages = [
        StageConfig(
            size=64,
            network=stage_i,
            schedule=ScheduleKind.COSINE_BETAS,
            prediction=Prediction.EPSILON,
            sampler=SamplerKind.DDPM,
            steps=100,
            guidance=Guidance(strategy=Strategy.JOINT, text_weight=7.0, neighbor_weight=7.0),
            thresholding=Thresholding(percentile=0.95, maximum=1.5),
        )
    ]
    if stage_ii is not None:
        stages.append(
            StageConfig(
                size=256,
                network=stage_ii,
                schedule=ScheduleKind.COSINE_BETAS,
                prediction=Prediction.EPSILON,
                sampler=SamplerKind.DDPM,
                steps=50,
                guidance=Guidance(strategy=Strategy.JOINT, text_weight=4.0, neighbor_weight=4.0),
                thresholding=Thresholding(percentile=0.95, maximum=1.0),
                upsampling=Upsampling.BILINEAR_CORNERS,
                augmentation=0.25,
            )
        )
    return CascadeConfig(
        name=name, text_encoder=T5Text(length=77), dropped_text=DroppedText.EMPTY_PROMPT, stages=tuple(stages)
    )


IF_II_M = _stage_ii(96, 1)

IF_II_L = _stage_ii(160, 2)

DEEPFLOYD_IF_M = deepfloyd_cascade("deepfloyd-if-m", _stage_i(192), IF_II_M)
DEEPFLOYD_IF_L = deepfloyd_cascade("deepfloyd-if-l", _stage_i(320), IF_II_L)
DEEPFLOYD_IF_XL = deepfloyd_cascade("deepfloyd-if-xl", _stage_i(704), IF_II_L)
