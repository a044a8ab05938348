"""Configurations of the kinds of networks. Level 0 is the finest."""

from abc import abstractmethod
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ComputeType(StrEnum):
    """The type of products and convolutions; norms, softmax and the time embedding stay in float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class NetworkConfig(BaseModel):
    """The fields that the configurations of all networks share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text_channels: int = Field(256, description="Width of the text encoder's embeddings.")
    low_resolution: bool = Field(
        False, description="The network takes the low-resolution image and its augmentation level."
    )
    learned_variance: bool = Field(False, description="Three more output channels predict the variance of DDPM.")
    placed: bool = Field(
        False,
        description="The network takes the objects of the neighbors at their placements (networks/placement.py) and "
        "may copy them.",
    )
    dtype: ComputeType = ComputeType.FLOAT32

    @property
    def out_channels(self) -> int:
        """Number of output channels: those of the prediction, and of the variance if it is learned."""
        return 6 if self.learned_variance else 3

    @property
    def retrieval(self) -> bool:
        """Whether the network is conditioned on neighbors."""
        return False

    @property
    def guided(self) -> bool:
        """Whether a request's guidance of all stages applies: to networks that see neighbors and read the text."""
        return self.retrieval

    @property
    @abstractmethod
    def divisor(self) -> int:
        """The number that must divide an image's side."""


class LevelsConfig(NetworkConfig):
    """The fields that the configurations of networks with several levels share."""

    widths: tuple[int, ...] = Field(description="Channels of each level.")
    blocks: tuple[int, ...] = Field(description="Residual blocks of each level, in the downward and the upward path.")
    neighbor_attention: tuple[bool, ...] = Field(description="Levels whose upward path attends to the neighbors.")
    head_channels: int = Field(32, ge=8, description="Channels of an attention head.")

    @property
    def retrieval(self) -> bool:
        """Whether the network is conditioned on neighbors."""
        return any(self.neighbor_attention)


class UNetConfig(LevelsConfig):
    """A U-Net on folded pixels (`networks/unet.py`)."""

    kind: Literal["unet"] = "unet"
    patch: int = Field(ge=1, description="Side of the square of pixels folded into one position of the finest level.")
    attention: tuple[bool, ...] = Field(description="Levels with self-attention joined by the text's tokens.")
    tail_channels: int = Field(
        0, ge=0, description="Channels of residual blocks at the image's full size, before the output; 0 for none."
    )

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if self.placed and not self.retrieval:
            raise ValueError(
                "placed: must be false without neighbor_attention, since the network then takes no neighbors"
            )
        if self.placed and not self.tail_channels:
            raise ValueError("tail_channels: must be above 0 with placed, since the tail predicts what to copy")
        _check_levels(self, ("blocks", "attention", "neighbor_attention"))
        _check_heads(self, [a or n for a, n in zip(self.attention, self.neighbor_attention, strict=True)])
        return self

    @property
    def divisor(self) -> int:
        """The number that must divide an image's side."""
        return int(self.patch * 2 ** (len(self.widths) - 1))


class LevelAttention(StrEnum):
    """What the last block of a level attends to, in addition to neighbors."""

    NONE = "none"
    TEXT = "text"
    SELF_AND_TEXT = "self-and-text"


class EfficientUNetConfig(LevelsConfig):
    """Imagen's Efficient U-Net (`networks/efficient_unet.py`); its finest level has half the image's side."""

    kind: Literal["efficient-unet"] = "efficient-unet"
    attention: tuple[LevelAttention, ...] = Field(description="What each level attends to.")
    residual: bool = Field(False, description="The network predicts x_0 as a difference to the upsampled image.")

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        _check_levels(self, ("blocks", "attention", "neighbor_attention"))
        used = [a is not LevelAttention.NONE for a in self.attention]
        _check_heads(self, [a or n for a, n in zip(used, self.neighbor_attention, strict=True)])
        return self

    @property
    def divisor(self) -> int:
        """The number that must divide an image's side."""
        return int(2 ** len(self.widths))


class Activation(StrEnum):
    """The activation function of the blocks."""

    SILU = "silu"
    GELU = "gelu"


class TextNorm(StrEnum):
    """Normalization of text tokens before attention: each token alone, or all tokens of a row by groups of channels."""

    LAYER = "layer"
    GROUP = "group"


class ImagenUNetConfig(LevelsConfig):
    """Imagen's 64 × 64 base and DeepFloyd IF's stages (`networks/imagen_unet.py`)."""

    kind: Literal["imagen-unet"] = "imagen-unet"
    blocks: tuple[int, ...] = Field(
        description="Residual blocks of each level in the downward path; the upward path has one more at each level."
    )
    attention: tuple[LevelAttention, ...] = Field(description="What each block of each level attends to.")
    middle_attention: LevelAttention = LevelAttention.SELF_AND_TEXT
    conditioning: int = Field(ge=1, description="Channels of the vector that conditions every block.")
    text_width: int = Field(description="Channels to which the text tokens are projected for attention.")
    pool_heads: int = Field(64, ge=1, description="Attention heads that pool the text tokens.")
    activation: Activation = Activation.SILU
    activate_once: bool = Field(
        False, description="The conditioning vector is activated once instead of in each block."
    )
    text_norm: TextNorm = TextNorm.LAYER
    sees_padding: bool = Field(
        False, description="Attention includes the padding of a text, as in the training of DeepFloyd IF."
    )
    residual_divisor: float = Field(1.0, gt=0, description="Divisor of each residual block's sum.")
    middle_divisor: float = Field(
        1.0, gt=0, description="Divisor of the sums of the residual blocks between the downward and the upward path."
    )
    checkpointing: bool = Field(False, description="Blocks are recomputed for the gradient, which saves memory.")

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        _check_levels(self, ("blocks", "attention", "neighbor_attention"))
        used = [a is not LevelAttention.NONE for a in self.attention]
        _check_heads(self, [a or n for a, n in zip(used, self.neighbor_attention, strict=True)])
        for name, values in (("widths", self.widths), ("text_width", (self.text_width,))):
            if any(value % 32 for value in values):
                raise ValueError(f"{name}: must be multiples of 32, the groups of the norms, got {values}")
        if self.text_channels % self.pool_heads:
            raise ValueError(f"pool_heads: must divide text_channels, {self.text_channels}")
        if self.middle_attention is LevelAttention.NONE or self.widths[-1] % self.head_channels:
            raise ValueError(
                "middle_attention: must not be none, and widths[-1] must be a multiple of head_channels, "
                f"{self.head_channels}"
            )
        return self

    @property
    def divisor(self) -> int:
        """The number that must divide an image's side."""
        return int(2 ** (len(self.widths) - 1))


class FoldedResNetConfig(NetworkConfig):
    """A residual network for super-resolution on the low-resolution image's grid (`networks/folded_resnet.py`)."""

    kind: Literal["folded-resnet"] = "folded-resnet"
    width: int = Field(ge=1, description="Channels of every block.")
    blocks: int = Field(ge=1, description="Residual blocks.")
    factor: int = Field(
        4,
        ge=2,
        description="Side of the square of pixels folded into one position: the size of this stage divided by the size "
        "of the stage before.",
    )
    low_resolution: bool = Field(
        True, description="The network takes the low-resolution image and its augmentation level; always true."
    )

    @model_validator(mode="after")
    def _check_super_resolution(self) -> Self:
        if not self.low_resolution:
            raise ValueError("low_resolution: must be true, since a folded-resnet upsamples a low-resolution image")
        if self.learned_variance:
            raise ValueError("learned_variance: must be false, since a folded-resnet predicts no variance")
        return self

    @property
    def retrieval(self) -> bool:
        """Whether the network is conditioned on neighbors."""
        return self.placed

    @property
    def guided(self) -> bool:
        """Whether a request's guidance of all stages applies; not to this network, which ignores the text."""
        return False

    @property
    def divisor(self) -> int:
        """The number that must divide an image's side."""
        return self.factor


AnyNetworkConfig = Annotated[
    UNetConfig | EfficientUNetConfig | ImagenUNetConfig | FoldedResNetConfig, Field(discriminator="kind")
]


def _check_levels(config: LevelsConfig, names: tuple[str, ...]) -> None:
    for name in names:
        if len(getattr(config, name)) != len(config.widths):
            raise ValueError(f"{name}: must have one entry for each of the {len(config.widths)} levels of widths")


def _check_heads(config: LevelsConfig, attends: list[bool]) -> None:
    for width, used in zip(config.widths, attends, strict=True):
        if used and width % config.head_channels:
            raise ValueError(
                f"widths: {width}, the width of a level with attention, must be a multiple of head_channels, "
                f"{config.head_channels}"
            )
