"""Classifier-free guidance: the evaluations that a step makes, and how they are combined (Re-Imagen, section 3.4).

    text-enhanced       ε_p = w_p ε(x_t, c_p, c_n) - (w_p - 1) ε(x_t, c_n)
    neighbor-enhanced   ε_n = w_n ε(x_t, c_p, c_n) - (w_n - 1) ε(x_t, c_p)

    joint        w_p ε(x_t, c_p, c_n) - (w_p - 1) ε(x_t)
    weighted     η ε_p + (1 - η) ε_n
    interleaved  ε_p if R < η, else ε_n, with R uniform in [0, 1), drawn once per image and step

A negative prompt takes the place of no text: ε(x_t, c_n) becomes ε(x_t, c_neg, c_n), and ε(x_t) becomes ε(x_t, c_neg).
ε(x_t, c_p), which drops the neighbors alone, keeps the prompt.

Each row of a batch has its own strategy and weights, so images that are guided differently share a batch. A step
evaluates the network once, on the batch stacked as often as its most demanding row needs: evaluation j of row i keeps
or drops the text and the neighbors as `evaluations` says. A row that needs fewer ignores the others.

Steps outside a row's `interval` of log-SNRs are not guided (arXiv 2404.07724). Where no row of a step is guided, the
step makes one evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from reimagen_generator.config.cascade import Guidance, Strategy
from reimagen_generator.networks.network import Text

_Images = Float[Array, "batch height width channels"]


@dataclass(frozen=True)
class Unguided:
    """ε as the network predicts it."""

    evaluations: ClassVar[int] = 1
    code: ClassVar[int] = 0


@dataclass(frozen=True)
class Joint:
    """Text and neighbors guide together; also the guidance of an image without neighbors."""

    text_weight: float
    evaluations: ClassVar[int] = 2
    code: ClassVar[int] = 1


@dataclass(frozen=True)
class Interleaved:
    """A random choice per image and step: text guides, with probability `interleave_ratio`, or neighbors do."""

    text_weight: float
    neighbor_weight: float
    interleave_ratio: float
    evaluations: ClassVar[int] = 2
    code: ClassVar[int] = 2


@dataclass(frozen=True)
class Weighted:
    """Text's and neighbors' guidance, averaged with weight `interleave_ratio` for the text."""

    text_weight: float
    neighbor_weight: float
    interleave_ratio: float
    evaluations: ClassVar[int] = 3
    code: ClassVar[int] = 3


RowGuidance = Unguided | Joint | Interleaved | Weighted
MOST_EVALUATIONS = 3


def resolve(guidance: Guidance, *, neighbors: bool) -> RowGuidance:
    """Return the guidance of one image.

    Args:
        guidance: The stage's configuration, with the request's changes.
        neighbors: Whether the image has neighbors; without them guidance is joint.
    """
    text, neighbor, ratio = guidance.text_weight, guidance.neighbor_weight, guidance.interleave_ratio
    strategy = guidance.strategy if neighbors else Strategy.JOINT
    if strategy is Strategy.JOINT:
        return Unguided() if text == 1.0 else Joint(text)
    if text == neighbor == 1.0:
        return Unguided()
    return (Interleaved if strategy is Strategy.INTERLEAVED else Weighted)(text, neighbor, ratio)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GuidanceRows:
    """The guidance of each row of a batch, as arrays: other values need no new compilation."""

    code: Int[Array, " batch"]
    text_weight: Float[Array, " batch"]
    neighbor_weight: Float[Array, " batch"]
    interleave_ratio: Float[Array, " batch"]


def guidance_rows(rows: Sequence[RowGuidance]) -> GuidanceRows:
    """Return the rows' guidance as arrays."""

    def column(name: str) -> Float[np.ndarray, " batch"]:
        return np.asarray([getattr(row, name, 1.0) for row in rows], np.float32)

    return GuidanceRows(
        code=jnp.asarray([row.code for row in rows], jnp.int32),
        text_weight=jnp.asarray(column("text_weight")),
        neighbor_weight=jnp.asarray(column("neighbor_weight")),
        interleave_ratio=jnp.asarray(column("interleave_ratio")),
    )


def guided_steps(guidance: Guidance, log_snr: Float[np.ndarray, " steps"]) -> Bool[np.ndarray, " steps"]:
    """Return whether steps that begin at these log-SNRs are guided."""
    low, high = guidance.interval or (-np.inf, np.inf)
    return (low <= log_snr) & (log_snr <= high)


def evaluations_of_steps(
    rows: Sequence[RowGuidance], guided: Bool[np.ndarray, "batch steps"]
) -> Int[np.ndarray, " steps"]:
    """Return how many evaluations each step of a batch makes for each row."""
    needed = np.asarray([row.evaluations for row in rows])[:, None]
    most: Int[np.ndarray, " steps"] = np.where(guided, needed, 1).max(axis=0)
    return most


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Keep:
    """Whether each evaluation of each row keeps the text and the neighbors."""

    text: Bool[Array, "evaluations batch"]
    neighbors: Bool[Array, "evaluations batch"]


def evaluations(rows: GuidanceRows, count: int, r: Float[Array, " batch"]) -> Keep:
    """Return what each of `count` evaluations of a step keeps; the first keeps everything.

    Args:
        rows: The rows' guidance.
        count: 1 to `MOST_EVALUATIONS`.
        r: R of each row.
    """
    yes, no = jnp.ones_like(r, bool), jnp.zeros_like(r, bool)
    interleaved, enhances_text = rows.code == Interleaved.code, r < rows.interleave_ratio
    text = [yes, interleaved & ~enhances_text, yes]
    neighbors = [yes, (rows.code == Weighted.code) | (interleaved & enhances_text), no]
    return Keep(jnp.stack(text[:count]), jnp.stack(neighbors[:count]))


def combine(
    rows: GuidanceRows,
    guided: Bool[Array, " batch"],
    epsilons: Float[Array, "evaluations batch height width channels"],
    r: Float[Array, " batch"],
) -> _Images:
    """Return the guided ε of the evaluations that `evaluations` describes.

    Args:
        rows: The rows' guidance.
        guided: Whether this step of each row is guided.
        epsilons: What the network predicted; as many evaluations as the rows need or more.
        r: R of each row.
    """
    full = epsilons[0]
    if len(epsilons) == 1:
        return full
    guided &= rows.code != Unguided.code
    enhances_neighbors = (rows.code == Interleaved.code) & (r >= rows.interleave_ratio)
    weight = jnp.where(enhances_neighbors, rows.neighbor_weight, rows.text_weight)
    w = _per_row(jnp.where(guided, weight, 1.0))
    combined = w * full - (w - 1) * epsilons[1]
    if len(epsilons) == MOST_EVALUATIONS:
        text, neighbor, ratio = map(_per_row, (rows.text_weight, rows.neighbor_weight, rows.interleave_ratio))
        enhanced_text = text * full - (text - 1) * epsilons[1]
        enhanced_neighbors = neighbor * full - (neighbor - 1) * epsilons[2]
        weighted = ratio * enhanced_text + (1 - ratio) * enhanced_neighbors
        combined = jnp.where(_per_row(guided & (rows.code == Weighted.code)), weighted, combined)
    return combined


def drop_text(text: Text, keep: Bool[Array, " batch"], empty_text: Text | None) -> Text:
    """Return the text of rows that keep it, and the embedding of no text for the others.

    Args:
        text: The text of each row.
        keep: Which rows keep their text.
        empty_text: What stands for no text, for each row; None drops a text by its mask.
    """
    if empty_text is None:
        return Text(text.tokens, text.mask & keep[:, None])
    tokens = jnp.where(keep[:, None, None], text.tokens, empty_text.tokens)
    return Text(tokens, jnp.where(keep[:, None], text.mask, empty_text.mask))


def _per_row(value: Array) -> Array:
    return value[:, None, None, None]
