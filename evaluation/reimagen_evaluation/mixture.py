"""A Gaussian mixture with an exactly known score, against which samplers and guidance are measured.

Each component may fit a text, a neighbor, both or neither. Data for a prompt with neighbors come from the components
that fit both; dropping one condition admits the components that fit the other, and dropping both admits all.
"""

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.cascade import StageConfig
from reimagen_generator.config.networks import UNetConfig
from reimagen_generator.diffusion import schedule
from reimagen_generator.diffusion.conditions import Conditions
from reimagen_generator.diffusion.schedule import alpha_sigma
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Network, Text

_Points = Float[Array, "batch height width channels"]
_Rows = Bool[Array, " batch"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mixture:
    """Components of equal weight with isotropic deviations, in as many dimensions as an image has channels."""

    means: Float[Array, "components channels"]
    deviations: Float[Array, " components"]
    fits_text: Bool[Array, " components"]
    fits_neighbors: Bool[Array, " components"]

    @classmethod
    def example(cls, channels: int = 3, seed: int = 0) -> Self:
        """Return two components for each combination of fits; all stay well within [-1, 1], also with guidance."""
        rng = np.random.default_rng(seed)
        fits = np.arange(8) % 4
        return cls(
            jnp.asarray(rng.uniform(-0.4, 0.4, (8, channels))),
            jnp.asarray(rng.uniform(0.05, 0.12, 8)),
            jnp.asarray(fits % 2 == 0),
            jnp.asarray(fits // 2 == 0),
        )

    def epsilon(self, x_t: _Points, log_snr: Float[Array, " batch"], text: _Rows, neighbors: _Rows) -> _Points:
        """Return E[ε | x_t] in closed form, for rows that keep or drop the text and the neighbors.

        With v_k = α² d_k² + σ² the variance of component k at that noise, E[ε | x_t, k] = σ (x_t - α m_k) / v_k.
        """
        alpha, sigma = (value[:, None, None, None, None] for value in alpha_sigma(log_snr))
        variance = (alpha * self.deviations[:, None]) ** 2 + sigma**2
        residual = x_t[..., None, :] - alpha * self.means
        logits = -0.5 * (residual**2 / variance + jnp.log(variance)).sum(axis=-1)
        fits = (self.fits_text | ~text[:, None]) & (self.fits_neighbors | ~neighbors[:, None])
        shares = jax.nn.softmax(jnp.where(fits[:, None, None], logits, -jnp.inf), axis=-1)
        return (shares[..., None] * sigma * residual / variance).sum(axis=-2)

    def moments(self, *, text: bool, neighbors: bool) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, "c c"]]:
        """Return the mean and covariance of the data that fit the conditions that are kept."""
        fits = (np.asarray(self.fits_text) | (not text)) & (np.asarray(self.fits_neighbors) | (not neighbors))
        means, deviations = np.asarray(self.means)[fits], np.asarray(self.deviations)[fits]
        between = np.cov(means, rowvar=False, bias=True)
        return means.mean(axis=0), between + np.eye(means.shape[1]) * np.mean(deviations**2)


class ExactNetwork(Network):
    """A network that computes ε exactly for a mixture; each pixel is a point of the mixture."""

    def __init__(self, stage: StageConfig, mixture: Mixture) -> None:
        self.config = stage.network
        self.stage = stage
        self.mixture = nnx.data(mixture)

    def __call__(
        self,
        x: Float[Array, "batch height width 3"],
        time: Float[Array, " batch"],
        text: Text,
        neighbors: Neighbors | None = None,
        low_resolution: LowResolution | None = None,
    ) -> Float[Array, "batch height width 3"]:
        """Return ε."""
        log_snr = schedule.log_snr(self.stage.schedule, time, self.stage.log_snr_shift)
        keeps_neighbors = jnp.zeros_like(time, bool) if neighbors is None else neighbors.mask.any(axis=1)
        return self.mixture.epsilon(x, log_snr, text.mask.any(axis=1), keeps_neighbors)

    def encode_neighbors(
        self,
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
        low_resolution: Float[Array, "batch neighbors height width 3"] | None = None,
    ) -> Neighbors:
        """Return only the mask of the neighbors."""
        return Neighbors({}, mask)


POINTS = UNetConfig(patch=1, widths=(8,), blocks=(1,), attention=(False,), neighbor_attention=(True,), head_channels=8)
"""The configuration of a network on single pixels, for a stage that draws points of a mixture."""


def conditions(batch: int) -> Conditions:
    """Return a text and one neighbor per image; an `ExactNetwork` reads only their masks."""
    present = jnp.ones((batch, 1), bool)
    return Conditions(Text(jnp.zeros((batch, 1, 1)), present), Neighbors({}, present), None)
