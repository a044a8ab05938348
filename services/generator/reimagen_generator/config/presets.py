"""The named cascades."""

from reimagen_generator.config.cascade import (
    CascadeConfig,
    Guidance,
    Prediction,
    SamplerKind,
    ScheduleKind,
    StageConfig,
    Strategy,
    Thresholding,
)
from reimagen_generator.config.networks import EfficientUNetConfig, FoldedResNetConfig, LevelAttention, UNetConfig
from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.config.presets_deepfloyd import DEEPFLOYD_IF_L, DEEPFLOYD_IF_M, DEEPFLOYD_IF_XL
from reimagen_generator.config.presets_reimagen import RE_IMAGEN, RE_IMAGEN_FAST, RE_IMAGEN_SMALL
from reimagen_generator.config.text import MiniLmText

CLIPPING = Thresholding(percentile=1.0, maximum=1.0)
"""Plain clipping of x_0, as DeepFloyd IF does in stage II."""

DEMO = CascadeConfig(
    name="demo",
    # The art has each object in four styles, and a network this small averages two references.
    default_k=1,
    # The network draws whatever its references show.
    relevant_only=True,
    text_encoder=MiniLmText(),
    placement=PlacementConfig(text_channels=384, special_tokens=True),
    stages=(
        StageConfig(
            size=64,
            network=UNetConfig(
                patch=2,
                widths=(48, 96, 192),
                blocks=(2, 2, 2),
                attention=(False, False, True),
                neighbor_attention=(False, True, False),
                head_channels=48,
                text_channels=384,
                placed=True,
                tail_channels=24,
            ),
            prediction=Prediction.V,
            # Chosen by inspecting samples of the training set. With DDIM, the errors of a network this small add up to
            # smears in objects and skies; the noise that DDPM adds at each step replaces them.
            sampler=SamplerKind.DDPM,
            steps=40,
            guidance=Guidance(strategy=Strategy.INTERLEAVED, text_weight=2.0, neighbor_weight=2.5),
        ),
        StageConfig(
            size=256,
            network=FoldedResNetConfig(width=96, blocks=8, text_channels=384, placed=True),
            prediction=Prediction.X0,
            steps=2,
            guidance=Guidance(strategy=Strategy.JOINT, text_weight=1.0, neighbor_weight=1.0),
            thresholding=CLIPPING,
            augmentation=0.02,
            augment_before_upsampling=True,
        ),
        StageConfig(
            size=1024,
            network=FoldedResNetConfig(width=48, blocks=6, text_channels=384),
            prediction=Prediction.X0,
            steps=2,
            guidance=Guidance(strategy=Strategy.JOINT, text_weight=1.0, neighbor_weight=1.0),
            thresholding=CLIPPING,
            augment_before_upsampling=True,
        ),
    ),
)
"""The demonstration: icon art on scenes, small enough to draw on two CPU cores."""

DEMO_WITHOUT_NEIGHBORS = CascadeConfig(
    name="demo-without-neighbors",
    default_k=0,
    maximum_k=0,
    stages=(
        DEMO.stages[0].model_copy(
            update={
                "network": DEMO.stages[0].network.model_copy(
                    update={"neighbor_attention": (False, False, False), "placed": False}
                )
            }
        ),
    ),
)
"""The first stage of the demonstration without attention to neighbors: the paper's baseline, which it calls Imagen."""


def _tiny_super_resolution(*, retrieval: bool, attention: LevelAttention) -> EfficientUNetConfig:
    return EfficientUNetConfig(
        widths=(8, 16),
        blocks=(1, 1),
        attention=(LevelAttention.NONE, attention),
        neighbor_attention=(False, retrieval),
        head_channels=8,
        low_resolution=True,
        residual=True,
    )


TINY = CascadeConfig(
    name="tiny",
    stages=(
        StageConfig(
            size=16,
            network=UNetConfig(
                patch=2,
                widths=(8, 16),
                blocks=(1, 1),
                attention=(False, True),
                neighbor_attention=(False, True),
                head_channels=8,
            ),
            steps=2,
        ),
        StageConfig(
            size=32,
            network=_tiny_super_resolution(retrieval=True, attention=LevelAttention.SELF_AND_TEXT),
            prediction=Prediction.X0,
            steps=2,
            augmentation=0.1,
        ),
        StageConfig(
            size=64,
            network=_tiny_super_resolution(retrieval=False, attention=LevelAttention.TEXT),
            schedule=ScheduleKind.LINEAR,
            prediction=Prediction.X0,
            steps=2,
            guidance=Guidance(strategy=Strategy.JOINT),
        ),
    ),
)
"""The cascade for tests: every part at a size that compiles in seconds."""

PRESETS = {
    preset.name: preset
    for preset in (
        DEMO,
        DEMO_WITHOUT_NEIGHBORS,
        TINY,
        RE_IMAGEN,
        RE_IMAGEN_FAST,
        RE_IMAGEN_SMALL,
        DEEPFLOYD_IF_M,
        DEEPFLOYD_IF_L,
        DEEPFLOYD_IF_XL,
    )
}
