"""CLIP (arXiv 2103.00020): images and texts in one space, read from a folder in the format of transformers."""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reimagen_common.errors import first_fault
from reimagen_evaluation.features.clip_tokenizer import ClipTokenizer
from reimagen_evaluation.features.loading import load_network
from reimagen_evaluation.features.network import Features, Images
from reimagen_evaluation.features.preprocessing import Preprocessing
from reimagen_evaluation.features.transformer import (
    Activation,
    Transformer,
    TransformerConfig,
    ViT,
    ViTConfig,
)
from reimagen_generator.weights.importers.names import CONV, LINEAR, VECTOR, Layout, Source, layer, norm
from reimagen_generator.weights.locate import find_checkpoint

_TOKEN = Layout(lambda shape: shape[1:], lambda a: a[None])


class _Tower(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    hidden_size: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: float = Field(1e-5, gt=0)

    def transformer(self, *, causal: bool) -> TransformerConfig:
        """Return the configuration of the tower's blocks."""
        return TransformerConfig(
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.intermediate_size,
            self.hidden_act,
            self.layer_norm_eps,
            causal=causal,
        )


class _TextTower(_Tower):
    # The defaults are those of OpenAI's ViT-B/32, whose config.json omits them.
    hidden_size: int = Field(512, ge=1)
    intermediate_size: int = Field(2048, ge=1)
    num_hidden_layers: int = Field(12, ge=1)
    num_attention_heads: int = Field(8, ge=1)
    vocab_size: int = Field(49408, ge=1)
    max_position_embeddings: int = Field(77, ge=2)


class _VisionTower(_Tower):
    hidden_size: int = Field(768, ge=1)
    intermediate_size: int = Field(3072, ge=1)
    num_hidden_layers: int = Field(12, ge=1)
    num_attention_heads: int = Field(12, ge=1)
    image_size: int = Field(224, ge=1)
    patch_size: int = Field(32, ge=1)


class ClipConfig(BaseModel):
    """The fields of a model's `config.json`, by their names there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: Literal["clip"]
    projection_dim: int = Field(512, ge=1)
    text_config: _TextTower
    vision_config: _VisionTower

    @property
    def vit(self) -> ViTConfig:
        """The configuration of the image tower."""
        vision = self.vision_config
        return ViTConfig(
            vision.transformer(causal=False),
            vision.image_size,
            vision.patch_size,
            patch_bias=False,
            norm_in=True,
            projection=self.projection_dim,
        )


class TextTower(nnx.Module):
    """The text tower: from token ids to features."""

    def __init__(self, config: ClipConfig, rngs: nnx.Rngs) -> None:
        text = config.text_config
        self.embedding = nnx.Embed(text.vocab_size, text.hidden_size, rngs=rngs)
        self.places = nnx.Param(jnp.zeros((text.max_position_embeddings, text.hidden_size)))
        self.transformer = Transformer(text.transformer(causal=True), rngs)
        self.projection = nnx.Linear(text.hidden_size, config.projection_dim, use_bias=False, rngs=rngs)

    def __call__(self, ids: Int[Array, "batch length"], ends: Int[Array, " batch"]) -> Float[Array, "batch features"]:
        """Return the projection of each text's end token, which attends to the whole text."""
        x = self.transformer(self.embedding(ids) + self.places[: ids.shape[1]])
        pooled = jnp.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]
        features: Float[Array, "batch features"] = self.projection(pooled)
        return features


class Clip(nnx.Module):
    """The image tower and the text tower."""

    def __init__(self, config: ClipConfig, rngs: nnx.Rngs) -> None:
        self.vision = ViT(config.vit, rngs)
        self.text = TextTower(config, rngs)


class ClipFeatures:
    """A CLIP with stored weights; it computes features of images and texts, which are not normalized."""

    name = "clip"

    def __init__(
        self, network: Clip, config: ClipConfig, tokenizer: ClipTokenizer, preprocessing: Preprocessing
    ) -> None:
        self.side = preprocessing.side
        self.channels = config.projection_dim
        self._tokenizer, self._preprocessing = tokenizer, preprocessing
        self._graph, self._state = nnx.split(network)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `config.json`, `model.safetensors`, `preprocessor_config.json` and the tokenizer's files.

        Raises:
            ValueError: a file is missing or not CLIP's, or a tensor is missing, left over or of another shape.
        """
        path = folder / "config.json"
        try:
            config = ClipConfig.model_validate_json(path.read_text())
        except OSError as error:
            raise ValueError(f"features: cannot read {path}: {error}") from error
        except ValidationError as error:
            raise ValueError(f"features: {path} is not the configuration of a CLIP: {first_fault(error)}") from error
        tokenizer = ClipTokenizer.load(folder, config.text_config.max_position_embeddings)
        preprocessing = Preprocessing.load(folder)
        weights = find_checkpoint(folder, "model")
        network = load_network(lambda: Clip(config, nnx.Rngs(0)), weights, partial(_sources, config), _unused)
        return cls(network, config, tokenizer, preprocessing)

    def features(self, images: Images) -> Features:
        """Return the features of images of any size."""
        return np.asarray(self._images(self._state, self._preprocessing(images)))

    def text_features(self, texts: Sequence[str]) -> Features:
        """Return the features of texts; each text is truncated to the model's length."""
        return np.asarray(self._texts(self._state, *self._tokenizer(texts)))

    @partial(jax.jit, static_argnums=0)
    def _images(
        self, state: nnx.State[Any, Any], images: Float[Array, "batch side side 3"]
    ) -> Float[Array, "batch features"]:
        network: Clip = nnx.merge(self._graph, state)
        return network.vision(images)

    @partial(jax.jit, static_argnums=0)
    def _texts(
        self, state: nnx.State[Any, Any], ids: Int[Array, "batch length"], ends: Int[Array, " batch"]
    ) -> Float[Array, "batch features"]:
        network: Clip = nnx.merge(self._graph, state)
        return network.text(ids, ends)


def _unused(stored: Collection[str]) -> set[str]:
    """Return the stored names that inference does not need: the training temperature, and counters in older files."""
    return {name for name in stored if name == "logit_scale" or name.endswith(".position_ids")}


def _sources(config: ClipConfig, _: Collection[str]) -> dict[str, Source]:
    vision, text = "vision_model.embeddings", "text_model.embeddings"
    return (
        {
            "vision.patches.kernel": Source((f"{vision}.patch_embedding.weight",), CONV),
            "vision.class_token": Source((f"{vision}.class_embedding",), _TOKEN),
            "vision.places": Source((f"{vision}.position_embedding.weight",), VECTOR),
            "vision.projection.kernel": Source(("visual_projection.weight",), LINEAR),
            "text.embedding.embedding": Source((f"{text}.token_embedding.weight",), VECTOR),
            "text.places": Source((f"{text}.position_embedding.weight",), VECTOR),
            "text.projection.kernel": Source(("text_projection.weight",), LINEAR),
        }
        | norm("vision.norm_in", "vision_model.pre_layrnorm")
        | norm("vision.transformer.norm", "vision_model.post_layernorm")
        | norm("text.transformer.norm", "text_model.final_layer_norm")
        | _blocks("vision", "vision_model", config.vision_config.num_hidden_layers)
        | _blocks("text", "text_model", config.text_config.num_hidden_layers)
    )


def _blocks(ours: str, theirs: str, layers: int) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for number in range(layers):
        our, their = f"{ours}.transformer.blocks.{number}", f"{theirs}.encoder.layers.{number}"
        sources |= norm(f"{our}.attention_norm", f"{their}.layer_norm1")
        sources |= norm(f"{our}.perceptron_norm", f"{their}.layer_norm2")
        sources |= layer(f"{our}.attention.qkv", *(f"{their}.self_attn.{name}_proj" for name in "qkv"))
        sources |= layer(f"{our}.attention.out", f"{their}.self_attn.out_proj")
        sources |= layer(f"{our}.perceptron.inner", f"{their}.mlp.fc1")
        sources |= layer(f"{our}.perceptron.out", f"{their}.mlp.fc2")
    return sources
