"""Scores the images of a sweep by judges, into one CSV from which every table is made.

OUT/SETTING/scores-JUDGE.csv    grows as the judge works, and is kept when it is killed
OUT/scores.csv                  setting, key, group, sample, seed, drift, a column for each score and rating
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.copies import NEAR_COPY, copy_distance
from reimagen_evaluation.judges.judge import Judge, Pixels, Scores
from reimagen_evaluation.rating import ratings
from reimagen_evaluation.runs import DRAWN
from reimagen_evaluation.sweep import Sweep

SCORES = "scores.csv"
_BATCH = 50


def score(
    out: Path,
    sweep: Sweep,
    items: Sequence[Item],
    judges: Mapping[str, Judge],
    folders: Collection[str] | None = None,
) -> None:
    """Scores what is drawn and not scored yet, then writes OUT/scores.csv anew.

    Args:
        out: folder of the sweep.
        sweep: what was drawn.
        items: the benchmark.
        judges: by name.
        folders: the settings' that these judges score; None for all.

    Raises:
        ValueError: a judge cannot tell what an item asks for.
    """
    known = {item.key: item for item in items}
    for name, judge in judges.items():
        for folder in _drawn_folders(out, sweep):
            if folders is None or folder in folders:
                _score(out / folder, name, judge, known)
    write_scores(out, sweep, items)


def score_copies(out: Path, sweep: Sweep, items: Sequence[Item]) -> None:
    """Measures how near each image is to a copy of what it was grounded on, as `copies` has it."""

    def measure(image: Pixels, _: Item, references: Sequence[Path]) -> Mapping[str, float]:
        distance = copy_distance(image, references)
        near = float("nan") if np.isnan(distance) else float(distance < NEAR_COPY)
        return {"copy distance": distance, "near copy": near}

    score_by_references(out, sweep, items, "copies", measure)


def score_by_references(
    out: Path,
    sweep: Sweep,
    items: Sequence[Item],
    name: str,
    measure: Callable[[Pixels, Item, Sequence[Path]], Mapping[str, float]],
    groups: Collection[str] | None = None,
) -> None:
    """Score each image by what it was grounded on, then write OUT/scores.csv anew.

    Args:
        out: folder of the sweep.
        sweep: what was drawn.
        items: the benchmark.
        name: of the scores' file.
        measure: from an image, its item and the files of its references to its scores by name.
        groups: of the items that are scored; None for all.
    """
    known = {item.key: item for item in items}
    for folder in _drawn_folders(out, sweep):
        unscored = _unscored(out / folder, name)
        rows = [row for row in unscored if groups is None or known[row["key"]].group in groups]
        for batch in tqdm(list(_batches(rows)), desc=f"{name}: {folder}", unit="batch", leave=False):
            measured = [
                measure(image, known[row["key"]], [out / "references" / file for file in row["neighbors"].split()])
                for row, image in zip(batch, read_images(out / folder, batch), strict=True)
            ]
            columns = {column: np.array([scores[column] for scores in measured]) for column in measured[0]}
            _keep(out / folder, name, batch, columns)
    write_scores(out, sweep, items)


def write_scores(out: Path, sweep: Sweep, items: Sequence[Item]) -> None:
    """Writes OUT/scores.csv of all that judges, persons and measures have said."""
    records.write(out / SCORES, _merged(out, sweep, {item.key: item for item in items}))


def read_images(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[Pixels]:
    """The images of rows of a setting's drawn.csv."""
    return [read_image(folder / row["file"]) for row in rows]


def read_image(file: Path) -> Pixels:
    """An image file's pixels."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _drawn_folders(out: Path, sweep: Sweep) -> list[str]:
    return [name for name in sweep.folders() if (out / name / DRAWN).exists()]


def _score(folder: Path, name: str, judge: Judge, items: Mapping[str, Item]) -> None:
    rows = _unscored(folder, name)
    if unknown := {row["key"] for row in rows} - items.keys():
        raise InvalidArgument(f"{folder} has an image of {min(unknown)!r}, which is none of the items")
    for batch in tqdm(list(_batches(rows)), desc=f"{name}: {folder.name}", unit="batch", leave=False):
        _keep(folder, name, batch, judge.scores(read_images(folder, batch), [items[row["key"]] for row in batch]))


def _unscored(folder: Path, name: str) -> list[dict[str, str]]:
    there = {(row["key"], row["sample"]) for row in records.read(folder / f"scores-{name}.csv")}
    return [row for row in records.read(folder / DRAWN) if (row["key"], row["sample"]) not in there]


def _keep(folder: Path, name: str, rows: Sequence[Mapping[str, str]], scores: Scores) -> None:
    records.append(
        folder / f"scores-{name}.csv",
        (
            {"key": row["key"], "sample": row["sample"]}
            | {column: f"{values[place]:.6g}" for column, values in scores.items()}
            for place, row in enumerate(rows)
        ),
    )


def _merged(out: Path, sweep: Sweep, items: Mapping[str, Item]) -> Iterator[records.Row]:
    for folder in _drawn_folders(out, sweep):
        judged = ratings.scores(out, folder)
        for file in sorted((out / folder).glob("scores-*.csv")):
            for row in records.read(file):
                judged.setdefault((row["key"], row["sample"]), {}).update(row)
        for row in records.read(out / folder / DRAWN):
            facts = {"setting": folder, "key": row["key"], "group": items[row["key"]].group}
            rest = {name: row[name] for name in ("sample", "seed", "drift", "seconds")}
            yield facts | rest | judged.get((row["key"], row["sample"]), {})


def _batches(rows: Sequence[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
