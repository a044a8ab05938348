"""Guidance: which evaluations a step makes, and how they are combined (Re-Imagen, section 3.4).

    text-enhanced       ε_p = w_p ε(x_t, c_p, c_n) - (w_p - 1) ε(x_t, c_n)
    neighbor-enhanced   ε_n = w_n ε(x_t, c_p, c_n) - (w_n - 1) ε(x_t, c_p)

    joint        w_p ε(x_t, c_p, c_n) - (w_p - 1) ε(x_t)
    weighted     η ε_p + (1 - η) ε_n
    interleaved  ε_p if R < η, else ε_n, with R uniform in [0, 1), drawn once an image and step

A step evaluates the network once, on rows stacked evaluation by evaluation: row j of image i keeps or drops the text
and the neighbors as `evaluations` says.

Outside the interval of log-SNRs of a `Guidance` that has one, a step is not guided (arXiv 2404.07724) and makes one
evaluation. Such a step is compiled beside the guided one: evaluations cost more than compiling once does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.cascade import Guidance, Strategy
from reimagen_generator.networks.network import Text

_Images = Float[Array, "batch height width channels"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Weights:
    """The numbers of a `Guidance`, which may change without compiling anew."""

    text: Float[Array, ""]
    neighbor: Float[Array, ""]
    interleave_ratio: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Keep:
    """For each evaluation and image, whether the text and the neighbors are kept."""

    text: Bool[Array, "evaluations batch"]
    neighbors: Bool[Array, "evaluations batch"]


def weights(guidance: Guidance) -> Weights:
    """The numbers of a guidance as arrays."""
    return Weights(
        jnp.asarray(guidance.text_weight),
        jnp.asarray(guidance.neighbor_weight),
        jnp.asarray(guidance.interleave_ratio),
    )


def guided(guidance: Guidance, log_snr: Float[np.ndarray, " steps"]) -> Bool[np.ndarray, " steps"]:
    """Whether steps that begin at these log-SNRs are guided."""
    low, high = guidance.interval or (-np.inf, np.inf)
    return (low <= log_snr) & (log_snr <= high)


def drop_text(text: Text, keep: Bool[Array, " batch"], empty_text: Text | None) -> Text:
    """The text of rows that keep it, and what stands for "no text" in the others.

    Args:
        text: of each row.
        keep: which rows keep their text.
        empty_text: the embedding that stands for no text, for each row; None for nothing at all, a mask of zeros.
    """
    if empty_text is None:
        return Text(text.tokens, text.mask & keep[:, None])
    tokens = jnp.where(keep[:, None, None], text.tokens, empty_text.tokens)
    return Text(tokens, jnp.where(keep[:, None], text.mask, empty_text.mask))


def strategy_of(guidance: Guidance, *, neighbors: bool) -> Strategy | None:
    """The strategy to use: none where all its weights are 1, joint where there are no neighbors to enhance."""
    strategy = guidance.strategy if neighbors else Strategy.JOINT
    used = {guidance.text_weight} if strategy is Strategy.JOINT else {guidance.text_weight, guidance.neighbor_weight}
    return None if used == {1.0} else strategy


EVALUATIONS: Final[Mapping[Strategy | None, int]] = {
    None: 1,
    Strategy.JOINT: 2,
    Strategy.WEIGHTED: 3,
    Strategy.INTERLEAVED: 2,
}
"""How many evaluations a step makes for each image; None is no guidance."""


def evaluations(strategy: Strategy | None, interleave_ratio: Float[Array, ""], r: Float[Array, " batch"]) -> Keep:
    """The evaluations of a step; the first keeps everything.

    Args:
        strategy: None for no guidance, one evaluation.
        interleave_ratio: η.
        r: R of each image.
    """
    yes, no = jnp.ones_like(r, bool), jnp.zeros_like(r, bool)
    match strategy:
        case None:
            text, neighbors = [yes], [yes]
        case Strategy.JOINT:
            text, neighbors = [yes, no], [yes, no]
        case Strategy.WEIGHTED:
            text, neighbors = [yes, no, yes], [yes, yes, no]
        case Strategy.INTERLEAVED:
            enhance_text = r < interleave_ratio
            text, neighbors = [yes, ~enhance_text], [yes, enhance_text]
    return Keep(jnp.stack(text), jnp.stack(neighbors))


def combine(
    strategy: Strategy | None,
    epsilons: Float[Array, "evaluations batch height width channels"],
    weight: Weights,
    r: Float[Array, " batch"],
) -> _Images:
    """The guided ε of the evaluations that `evaluations` asked for."""
    full = epsilons[0]
    match strategy:
        case None:
            return full
        case Strategy.JOINT:
            return weight.text * full - (weight.text - 1) * epsilons[1]
        case Strategy.WEIGHTED:
            enhanced_text = weight.text * full - (weight.text - 1) * epsilons[1]
            enhanced_neighbors = weight.neighbor * full - (weight.neighbor - 1) * epsilons[2]
            return weight.interleave_ratio * enhanced_text + (1 - weight.interleave_ratio) * enhanced_neighbors
        case Strategy.INTERLEAVED:
            w = jnp.where(r < weight.interleave_ratio, weight.text, weight.neighbor)[:, None, None, None]
            return w * full - (w - 1) * epsilons[1]
