"""Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009): combine several rankings by their ranks alone.

Scores of different methods have no common scale. Ranks do.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

K = 60
"""The constant of the paper. The larger it is, the less the first ranks stand out."""

Item = TypeVar("Item", bound=Hashable)


def reciprocal_rank_fusion(rankings: Iterable[Sequence[Item]]) -> dict[Item, float]:
    """Score each item by the sum of 1 / (60 + rank) over the rankings that contain it.

    Args:
        rankings: Rankings without repetitions, each best first. Ranks count from 1.

    Returns:
        The scores of the items, largest first, ties in the order of the best rank of the items.
    """
    scores: defaultdict[Item, float] = defaultdict(float)
    best: dict[Item, int] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] += 1 / (K + rank)
            best[item] = min(rank, best.get(item, rank))
    return dict(sorted(scores.items(), key=lambda entry: (-entry[1], best[entry[0]])))
