"""The scores of a sweep, read from OUT/scores.csv."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import records, sets
from reimagen_evaluation.scoring import SCORES

FACTS = ("setting", "key", "group", "sample", "seed", "drift", "seconds", "rated failure")
"""Columns that are not scores."""
BEST_BY = "faithful"


@dataclass(frozen=True)
class Scores:
    """The scores of each item's best image, by setting and item."""

    names: tuple[str, ...]
    """Names of the scores, in the order of the CSV."""
    by_setting: Mapping[str, Mapping[str, Mapping[str, str]]]
    frechet: Mapping[str, float]
    """Fréchet distance of a setting's images to real ones, by setting, if measured."""

    def of(self, setting: str, keys: Sequence[str], name: str) -> Float[np.ndarray, " keys"]:
        """Return one score of the items under a setting; NaN where it is missing."""
        rows = self.by_setting.get(setting, {})
        return np.array([float(rows.get(key, {}).get(name) or "nan") for key in keys])


def read(out: Path) -> Scores:
    """Read OUT/scores.csv; of several images of an item the best counts, which is a faithful one if there is any.

    Without a judge of faithfulness, the best image is the one with the highest mean score.

    Raises:
        InvalidArgument: there are no scores.
    """
    rows = records.read(out / SCORES)
    if not rows:
        raise InvalidArgument(f"nothing in {out} is scored yet; run `reimagen-evaluate score` first")
    names = tuple(name for name in rows[0] if name not in FACTS)
    best: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        items = best.setdefault(row["setting"], {})
        if row["key"] not in items or _rank(row, names) > _rank(items[row["key"]], names):
            items[row["key"]] = row
    return Scores(names, best, sets.read(out))


def _rank(row: Mapping[str, str], names: Sequence[str]) -> float:
    if row.get(BEST_BY):
        return float(row[BEST_BY])
    given = [float(row[name]) for name in names if row.get(name) and row[name] != "nan"]
    return sum(given) / len(given) if given else 0.0
