"""Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009): several rankings become one by their ranks alone.

Scores of different methods have no common scale; ranks do.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

K = 60
"""The constant of the paper: the larger, the less the first ranks stand out."""

Item = TypeVar("Item", bound=Hashable)


def reciprocal_rank_fusion(rankings: Iterable[Sequence[Item]]) -> dict[Item, float]:
    """The sum of 1 / (60 + rank) over the rankings that an item is in, best first.

    Args:
        rankings: Each best first, without repetitions; ranks count from 1.

    Returns:
        The items' scores, the greatest first; equal ones in the order of the items' first appearance by rank.
    """
    scores: defaultdict[Item, float] = defaultdict(float)
    best: dict[Item, int] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] += 1 / (K + rank)
            best[item] = min(rank, best.get(item, rank))
    return dict(sorted(scores.items(), key=lambda entry: (-entry[1], best[entry[0]])))
