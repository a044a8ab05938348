"""The replacement of a dropped text: no tokens, or the embedding of the empty prompt."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reimagen_generator.config.cascade import CascadeConfig, Guidance, Prediction, StageConfig, Strategy
from reimagen_generator.config.networks import UNetConfig
from reimagen_generator.config.text import DroppedText
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import Network, Text
from reimagen_generator.text.encoder import TextEmbedding
from reimagen_generator.training.data import Sample, collate
from reimagen_generator.training.loss import Draws, loss_by_row

PROMPT, EMPTY = 0.4, 0.1
SIDE = 8
UNET = UNetConfig(
    patch=1, widths=(8,), blocks=(1,), attention=(False,), neighbor_attention=(False,), head_channels=8, text_channels=2
)
STAGE = StageConfig(
    size=SIDE,
    network=UNET,
    prediction=Prediction.X0,
    steps=1,
    guidance=Guidance(strategy=Strategy.JOINT, text_weight=2.0),
)


class Levels:
    """A text encoder whose tokens are levels of gray."""

    channels, length = 2, 3

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        levels = np.array([PROMPT if text else EMPTY for text in texts], np.float32)
        return TextEmbedding(
            np.broadcast_to(levels[:, None, None], (len(texts), 3, 2)).copy(), np.ones((len(texts), 3), bool)
        )


class Gray(Network):
    """A network that draws the mean of its tokens, or 0 without tokens."""

    def __init__(self) -> None:
        self.config = UNET
        self.weight = nnx.Param(jnp.ones(()))

    def __call__(self, x: Any, time: Any, text: Text, neighbors: Any = None, low_resolution: Any = None) -> Any:
        seen = (text.tokens * text.mask[..., None]).mean(axis=(1, 2))
        return jnp.zeros_like(x) + seen[:, None, None, None] * self.weight[...]

    def encode_neighbors(self, images: Any, text: Text, mask: Any, low_resolution: Any = None) -> Neighbors:
        return Neighbors({}, mask)


@pytest.mark.parametrize(
    ("dropped", "level"), [(DroppedText.MASKED, 2 * PROMPT), (DroppedText.EMPTY_PROMPT, 2 * PROMPT - EMPTY)]
)
def test_guidance_points_away_from_the_dropped_text(dropped: DroppedText, level: float) -> None:
    config = CascadeConfig(name="gray", stages=(STAGE,), default_k=0, dropped_text=dropped)
    *_, drawn = Cascade(config, [Gray()], Levels()).draw("something", [], seeds=[0], size=SIDE)
    assert isinstance(drawn, ImagesEvent)
    # At t = 1, the image is computed from its small share in the noise.
    np.testing.assert_allclose(drawn.images.astype(int), round((level + 1) * 127.5), atol=2)


@pytest.mark.parametrize(("dropped", "level"), [(DroppedText.MASKED, 0.0), (DroppedText.EMPTY_PROMPT, EMPTY)])
def test_training_uses_it_for_rows_whose_text_is_dropped(dropped: DroppedText, level: float) -> None:
    samples = [Sample(np.full((SIDE, SIDE, 3), 128, np.uint8), "something", ())] * 2
    batch = collate(samples, Levels(), 0, dropped)
    rows = 4
    draws = Draws(
        time=jnp.full(rows, 0.99),  # where the weight of the error is not clipped
        noise=jnp.zeros((rows, SIDE, SIDE, 3)),
        augmentation=jnp.zeros(rows),
        augmentation_noise=jnp.zeros((rows, SIDE, SIDE, 3)),
        keep_text=jnp.array([True, False, False, True]),
        keep_neighbors=jnp.ones((rows, 0), bool),
    )
    errors = np.sqrt(loss_by_row(Gray(), STAGE, None, batch, draws))
    np.testing.assert_allclose(errors, [PROMPT, level, level, PROMPT], atol=0.005)
