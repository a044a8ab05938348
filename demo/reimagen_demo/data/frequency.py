"""How often training shows each entity: a few often, most rarely, as on the web.

Entities are ranked in a fixed arbitrary order and drawn in proportion to 1 / (rank + OFFSET) ** EXPONENT, the
Zipf-Mandelbrot law. The upper half of the ranks is *frequent*, the lower half *infrequent*, as the paper splits its
entities.
"""

import hashlib
from functools import cache
from itertools import accumulate
from random import Random
from typing import Literal

from reimagen_demo.art.entities import Entity, entities, of_split

OFFSET = 10
EXPONENT = 1.2
"""With both values the rarest of 680 entities is drawn about 9 times in 40,000, the most frequent about 1,300 times."""

Pool = Literal["train", "held-out", "all"]
"""Entities to draw from: those of training by frequency; those held out, or all, equally often."""
Group = Literal["frequent", "infrequent", "held-out"]


@cache
def group(entity: Entity) -> Group:
    """Return how often training shows the entity; `held-out` means never."""
    if entity.split == "held-out":
        return "held-out"
    return "frequent" if entity in ranked()[: len(ranked()) // 2] else "infrequent"


def draw_entity(rng: Random, pool: Pool) -> Entity:
    """Return a random entity of the pool."""
    if pool == "train":
        return rng.choices(ranked(), cum_weights=_cumulative_weights())[0]
    return rng.choice(entities() if pool == "all" else of_split(pool))


@cache
def ranked() -> tuple[Entity, ...]:
    """Return the entities of training, the most frequent first."""
    return tuple(sorted(of_split("train"), key=lambda entity: hashlib.sha256(entity.code.encode()).digest()))


@cache
def _cumulative_weights() -> tuple[float, ...]:
    return tuple(accumulate((rank + OFFSET) ** -EXPONENT for rank in range(1, len(ranked()) + 1)))
