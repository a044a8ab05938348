"""DINO (arXiv 2104.14294) and DINOv2 (arXiv 2304.07193), read from a folder in the format of transformers."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reimagen_common.errors import first_fault
from reimagen_evaluation.features.loading import load_network
from reimagen_evaluation.features.network import Features, Images
from reimagen_evaluation.features.preprocessing import Preprocessing
from reimagen_evaluation.features.transformer import TransformerConfig, ViT, ViTConfig
from reimagen_generator.weights.importers.names import CONV, ROW, VECTOR, Layout, Source, layer, norm
from reimagen_generator.weights.locate import find_checkpoint

_TOKEN = Layout(lambda shape: (1, *shape), lambda a: a[0])


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    hidden_size: int = Field(768, ge=1)
    num_hidden_layers: int = Field(12, ge=1)
    num_attention_heads: int = Field(12, ge=1)
    hidden_act: Literal["gelu"] = "gelu"
    image_size: int = Field(224, ge=1)
    patch_size: int = Field(16, ge=1)
    qkv_bias: Literal[True] = True


class DinoConfig(_Config):
    """The fields of a ViT's `config.json`, by their names there."""

    model_type: Literal["vit"]
    intermediate_size: int = Field(3072, ge=1)
    layer_norm_eps: float = Field(1e-12, gt=0)

    @property
    def vit(self) -> ViTConfig:
        """The configuration of the network."""
        transformer = TransformerConfig(
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.intermediate_size,
            self.hidden_act,
            self.layer_norm_eps,
        )
        return ViTConfig(transformer, self.image_size, self.patch_size)


class Dinov2Config(_Config):
    """The fields of a DINOv2's `config.json`, by their names there."""

    model_type: Literal["dinov2"]
    mlp_ratio: float = Field(4, gt=0)
    use_swiglu_ffn: bool = False
    layer_norm_eps: float = Field(1e-6, gt=0)
    patch_size: int = Field(14, ge=1)

    @property
    def vit(self) -> ViTConfig:
        """The configuration of the network.

        A gated perceptron has two thirds of the channels, rounded up to a multiple of eight.
        """
        hidden = int(self.hidden_size * self.mlp_ratio)
        transformer = TransformerConfig(
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            (int(hidden * 2 / 3) + 7) // 8 * 8 if self.use_swiglu_ffn else hidden,
            self.hidden_act,
            self.layer_norm_eps,
            layer_scale=True,
            gated=self.use_swiglu_ffn,
        )
        return ViTConfig(transformer, self.image_size, self.patch_size)


_AnyConfig = Annotated[DinoConfig | Dinov2Config, Field(discriminator="model_type")]


class DinoFeatures:
    """A DINO or DINOv2 with stored weights; its features are the class token after the last norm."""

    def __init__(self, network: ViT, config: DinoConfig | Dinov2Config, preprocessing: Preprocessing) -> None:
        self.name = "dino" if config.model_type == "vit" else "dinov2"
        self.side = preprocessing.side
        self.channels = config.vit.channels
        self._preprocessing = preprocessing
        self._graph, self._state = nnx.split(network)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `config.json`, `model.safetensors` and `preprocessor_config.json`.

        Raises:
            ValueError: a file is missing or not DINO's, or a tensor is missing, left over or of another shape.
        """
        path = folder / "config.json"
        try:
            config: _AnyConfig = TypeAdapter(_AnyConfig).validate_json(path.read_text())
        except OSError as error:
            raise ValueError(f"features: cannot read {path}: {error}") from error
        except ValidationError as error:
            raise ValueError(f"features: {path} is not the configuration of a DINO: {first_fault(error)}") from error
        preprocessing = Preprocessing.load(folder)
        weights = find_checkpoint(folder, "model")
        network = load_network(lambda: ViT(config.vit, nnx.Rngs(0)), weights, partial(_sources, config), _unused)
        return cls(network, config, preprocessing)

    def features(self, images: Images) -> Features:
        """Return the features of images of any size."""
        return np.asarray(self._compiled(self._state, self._preprocessing(images)))

    @partial(jax.jit, static_argnums=0)
    def _compiled(
        self, state: nnx.State[Any, Any], images: Float[Array, "batch side side 3"]
    ) -> Float[Array, "batch features"]:
        network: ViT = nnx.merge(self._graph, state)
        return network(images)


def _unused(stored: Collection[str]) -> set[str]:
    """Return the stored names that only training needs: the mask token, and the pooler on the class token."""
    return {name for name in stored if name == "embeddings.mask_token" or name.startswith("pooler.")}


def _sources(config: DinoConfig | Dinov2Config, _: Collection[str]) -> dict[str, Source]:
    sources = (
        layer("patches", "embeddings.patch_embeddings.projection", weight=CONV)
        | {
            "class_token": Source(("embeddings.cls_token",), _TOKEN),
            "places": Source(("embeddings.position_embeddings",), ROW),
        }
        | norm("transformer.norm", "layernorm")
    )
    for number in range(config.num_hidden_layers):
        ours, theirs = f"transformer.blocks.{number}", f"encoder.layer.{number}"
        parts = ("query", "key", "value")
        sources |= layer(f"{ours}.attention.qkv", *(f"{theirs}.attention.attention.{part}" for part in parts))
        sources |= layer(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        sources |= _dino(ours, theirs) if isinstance(config, DinoConfig) else _dinov2(ours, theirs, config)
    return sources


def _dino(ours: str, theirs: str) -> dict[str, Source]:
    return (
        norm(f"{ours}.attention_norm", f"{theirs}.layernorm_before")
        | norm(f"{ours}.perceptron_norm", f"{theirs}.layernorm_after")
        | layer(f"{ours}.perceptron.inner", f"{theirs}.intermediate.dense")
        | layer(f"{ours}.perceptron.out", f"{theirs}.output.dense")
    )


def _dinov2(ours: str, theirs: str, config: Dinov2Config) -> dict[str, Source]:
    inner, out = ("weights_in", "weights_out") if config.use_swiglu_ffn else ("fc1", "fc2")
    return (
        norm(f"{ours}.attention_norm", f"{theirs}.norm1")
        | norm(f"{ours}.perceptron_norm", f"{theirs}.norm2")
        | layer(f"{ours}.perceptron.inner", f"{theirs}.mlp.{inner}")
        | layer(f"{ours}.perceptron.out", f"{theirs}.mlp.{out}")
        | {
            f"{ours}.attention_scale": Source((f"{theirs}.layer_scale1.lambda1",), VECTOR),
            f"{ours}.perceptron_scale": Source((f"{theirs}.layer_scale2.lambda1",), VECTOR),
        }
    )
