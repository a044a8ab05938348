"""The scores of a sweep, read from the CSV that everything is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import records, sets
from reimagen_evaluation.scoring import SCORES

FACTS = ("setting", "key", "group", "sample", "seed", "drift", "seconds", "rated failure")
"""Columns that are no scores."""
BEST_BY = "faithful"


@dataclass(frozen=True)
class Scores:
    """By setting and item, the scores of its best image."""

    names: tuple[str, ...]
    """Of the scores, in the order of the CSV."""
    by_setting: Mapping[str, Mapping[str, Mapping[str, str]]]
    frechet: Mapping[str, float]
    """By setting, its images' distance to real ones, where it was measured."""

    def of(self, setting: str, keys: Sequence[str], name: str) -> Float[np.ndarray, " keys"]:
        """One score of these items under a setting; NaN where there is none."""
        rows = self.by_setting.get(setting, {})
        return np.array([float(rows.get(key, {}).get(name) or "nan") for key in keys])


def read(out: Path) -> Scores:
    """Reads OUT/scores.csv; of several images of an item the best counts: the one that is faithful, if any is.

    Where no judge says so, the best is the one with the highest mean of its scores.

    Raises:
        InvalidArgument: nothing is scored.
    """
    rows = records.read(out / SCORES)
    if not rows:
        raise InvalidArgument(f"nothing in {out} is scored yet; `reimagen-evaluate score` does that")
    names = tuple(name for name in rows[0] if name not in FACTS)
    best: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        items = best.setdefault(row["setting"], {})
        if row["key"] not in items or _worth(row, names) > _worth(items[row["key"]], names):
            items[row["key"]] = row
    return Scores(names, best, sets.read(out))


def _worth(row: Mapping[str, str], names: Sequence[str]) -> float:
    if row.get(BEST_BY):
        return float(row[BEST_BY])
    given = [float(row[name]) for name in names if row.get(name) and row[name] != "nan"]
    return sum(given) / len(given) if given else 0.0
