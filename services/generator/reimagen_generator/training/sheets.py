"""Sample sheets: a few fixed samples of the data, and the samples that the averaged weights draw for them.

A row shows the target image, for super-resolution the low-resolution image, the neighbors, and the drawn image; for a
stage with neighbors, also an image drawn without them. The stage's sampler and guidance are used. Each sample has its
own noise, the same on every sheet, so that sheets can be compared.
"""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from reimagen_generator.config.cascade import StageConfig
from reimagen_generator.config.text import DroppedText
from reimagen_generator.diffusion.resize import downsample, to_bytes, to_float
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.network import Network, in_compute_type
from reimagen_generator.networks.placement import place
from reimagen_generator.parallel.hosts import all_gather
from reimagen_generator.parallel.sharding import place_parameters
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.training.data import Sample, collate
from reimagen_generator.training.loss import of_side

_SAMPLES = 8
_PIXELS = _SAMPLES * 256**2
_LEAST_CELL = 128
_GAP, _LINE = 4, 20

Sheet = UInt8[np.ndarray, "height width 3"]


def sample_count(side: int) -> int:
    """Return the number of samples on a sheet: eight of up to 256 pixels, fewer of larger ones."""
    return max(1, min(_SAMPLES, _PIXELS // side**2))


class Sheets:
    """The sheets of a run."""

    def __init__(
        self,
        stage: StageConfig,
        factor: int | None,
        samples: Sequence[Sample],
        encoder: TextEncoder,
        neighbors: int,
        dropped_text: DroppedText,
        mesh: Mesh | None,
    ) -> None:
        """Encode the samples.

        Args:
            stage: The stage that is trained.
            factor: The stage's size divided by that of the stage before; None for the first stage.
            samples: The samples, in the size that training uses, possibly crops.
            encoder: The text encoder.
            neighbors: Maximum number of neighbors of a sample.
            dropped_text: What the networks see in place of a dropped text.
            mesh: The devices to draw on; None for the network's device.
        """
        side = samples[0].image.shape[0]
        # Downsampled images are trained with the noise of the stage's full size.
        schedule_size = stage.schedule_size and stage.schedule_size * side / stage.size
        self._config = stage.model_copy(update={"size": side, "schedule_size": schedule_size})
        self._factor = factor
        self._mesh = mesh
        self._samples = samples
        self._batch = collate(list(samples), encoder, max(neighbors, 1), dropped_text)
        self._has_neighbors = stage.network.retrieval and neighbors > 0
        self._low_res = self._batch.low_res
        if factor is not None and self._low_res is None:
            self._low_res = to_bytes(downsample(to_float(self._batch.image), factor))
        self._stage: Stage | None = None

    def draw(self, network: Network) -> Sheet:
        """Draw a sheet with a network."""
        if self._stage is None:
            self._stage = Stage(self._config, network, self._factor, self._mesh)
        else:  # reuse the compiled functions
            parameters = in_compute_type(nnx.state(network), self._config.network.dtype)
            self._stage.parameters = place_parameters(parameters, self._mesh)
        columns = {"target": np.asarray(self._batch.image)}
        if self._low_res is not None:
            columns["low-resolution"] = np.asarray(self._low_res)
        if self._has_neighbors:
            for number in range(self._batch.neighbor_mask.shape[1]):
                columns[f"neighbor {number + 1}"] = np.asarray(self._batch.neighbor_images[:, number])
            columns["drawn"] = self._drawn(self._stage, with_neighbors=True)
            columns["without neighbors"] = self._drawn(self._stage, with_neighbors=False)
        else:
            columns["drawn"] = self._drawn(self._stage, with_neighbors=False)
        return _sheet(columns, [sample.caption for sample in self._samples])

    def _drawn(self, stage: Stage, *, with_neighbors: bool) -> UInt8[np.ndarray, "samples side side 3"]:
        batch = self._batch
        keys = jax.vmap(jax.random.key)(jnp.arange(len(self._samples)))
        previous: Float[jax.Array, "samples h w 3"] | None = None if self._low_res is None else to_float(self._low_res)
        references = to_float(batch.neighbor_images)
        placed = None
        if stage.config.network.placed and batch.truth is not None:
            mattes = batch.truth.mattes.astype(jnp.float32) / 255.0
            placed = place(references, mattes, batch.truth.placements, batch.truth.canvas, stage.config.size)
        neighbors = None
        if stage.config.network.retrieval:
            neighbors = stage.encode_neighbors(
                of_side(references, stage.config.size), batch.neighbor_text, batch.neighbor_mask & with_neighbors
            )
            neighbors = replace(neighbors, placed=placed)
        conditions = stage.conditions(batch.text, neighbors, previous, keys, batch.empty_text)
        return np.asarray(all_gather(to_bytes(stage.sample_at_once(conditions, stage.config.guidance, keys))))


def _sheet(columns: dict[str, UInt8[np.ndarray, "samples h w 3"]], texts: Sequence[str]) -> Sheet:
    """Return the sheet: a row for each sample, with its caption above."""
    side = max(_LEAST_CELL, *(images.shape[1] for images in columns.values()))
    height = side + _LINE + _GAP
    sheet = Image.new("RGB", (len(columns) * (side + _GAP) - _GAP, _LINE + len(texts) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (title, images) in enumerate(columns.items()):
        left = number * (side + _GAP)
        draw.text((left + 2, 0), title, fill="gray", font=font)
        for row, image in enumerate(images):
            resized = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(resized, (left, 2 * _LINE + row * height))
    for row, text in enumerate(texts):
        draw.text((2, _LINE + row * height), text, fill="black", font=font)
    return np.asarray(sheet)
