"""The images that are not faithful, by the paper's kinds of failure (appendix I).

The paper's authors judged the kinds by eye. Here each kind has a rule on data that exists for every image: the judge's
scores, and the image that the same seed gives without neighbors. If people have rated an image, the kind that they
named counts instead.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.report import sheets
from reimagen_evaluation.report.scores import Scores
from reimagen_evaluation.report.sheets import Strip

PRIOR: Final = "a word read by a strong prior"
WRONG_PART: Final = "the wrong part of a reference"
BLENDED: Final = "two entities blended"
ONE_MISSING: Final = "one of two entities missing"
SCENE_LOST: Final = "the reference over the text"

KINDS: Final[Mapping[str, str]] = {
    PRIOR: "the entity is wrong, and the image is much like the one without references: the text's words dominate",
    WRONG_PART: "the entity is wrong, but the references changed the image: a wrong part of them was used",
    BLENDED: "of two entities, the halves do not show both, and the whole looks most like the one, then the other",
    ONE_MISSING: "of two entities, one is in its half and the other is missing: not in the paper's list",
    SCENE_LOST: "the entity is right, the rest of the text is not followed: not in the paper's list",
}
_ALIKE: Final = 24.0
"""Root mean square difference, of 255 and at 16 × 16 pixels, below which two images count as much alike."""


@dataclass(frozen=True)
class Failure:
    """An image that is not faithful."""

    item: Item
    kind: str
    image: Path
    references: tuple[Path, ...]
    without: Path | None
    """The image of the same seed without neighbors."""


def failures(out: Path, setting: str, without: str | None, items: Sequence[Item], scores: Scores) -> Iterator[Failure]:
    """Yield a setting's failures that were also drawn without neighbors or rated, in the items' order.

    Args:
        out: folder of the sweep.
        setting: folder name of the setting.
        without: folder name of the same setting without neighbors; None if it was not drawn.
        items: items of the benchmark.
        scores: scores of all settings.
    """
    drawn = sheets.drawn_rows(out / setting)
    bare = sheets.drawn_rows(out / without) if without else {}
    for item in items:
        row = scores.by_setting.get(setting, {}).get(item.key)
        if row is None or row.get("faithful") in (None, "", "nan") or float(row["faithful"]):
            continue
        sample = (item.key, int(row["sample"]))
        image = out / setting / drawn[sample]["file"]
        other = out / str(without) / bare[sample]["file"] if sample in bare else None
        if other is None and not row.get("rated failure"):
            continue
        found = tuple(path for path, _ in sheets.references(out, [drawn[sample]]))
        yield Failure(item, row.get("rated failure") or _kind(row, image, other), image, found, other)


def strips(found: Sequence[Failure], of_each: int) -> list[Strip]:
    """Return the first failures of each kind as strips: reference, image, image without references."""
    strip_list = []
    for kind in KINDS:
        for failure in [failure for failure in found if failure.kind == kind][:of_each]:
            cells: list[tuple[Path, str] | None] = [(path, "reference") for path in failure.references[:2]]
            cells += [None] * (2 - len(cells))
            cells.append((failure.image, "drawn"))
            if failure.without:
                cells.append((failure.without, "without"))
            strip_list.append(Strip(f"{kind}: {failure.item.prompt}", cells))
    return strip_list


def _kind(row: Mapping[str, str], image: Path, without: Path | None) -> str:
    if _yes(row, "blended"):
        return BLENDED
    if _yes(row, "one_of_two"):
        return ONE_MISSING
    if _yes(row, "entity"):
        return SCENE_LOST
    return PRIOR if without is not None and _difference(image, without) < _ALIKE else WRONG_PART


def _yes(row: Mapping[str, str], name: str) -> bool:
    return row.get(name) not in (None, "", "nan") and float(row[name]) == 1.0


def _difference(a: Path, b: Path) -> float:
    pixels = []
    for path in (a, b):
        with Image.open(path) as image:
            small = image.convert("RGB").resize((16, 16), Image.Resampling.BOX)
        pixels.append(np.asarray(small, np.float64))
    return float(np.sqrt(np.square(pixels[0] - pixels[1]).mean()))
