"""Score the images of a sweep with judges, into one CSV from which every table is made.

OUT/SETTING/scores-JUDGE.csv    grows while the judge works, and survives a kill
OUT/scores.csv                  setting, key, group, sample, seed, drift, one column per score and rating
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
    """Score the images that are not scored yet, then rewrite OUT/scores.csv.

    Args:
        out: folder of the sweep.
        sweep: the sweep that was drawn.
        items: items of the benchmark.
        judges: judges by name.
        folders: folders of the settings to score; None for all.

    Raises:
        ValueError: a judge cannot score an item.
    """
    known = {item.key: item for item in items}
    for name, judge in judges.items():
        for folder in _drawn_folders(out, sweep):
            if folders is None or folder in folders:
                _score(out / folder, name, judge, known)
    write_scores(out, sweep, items)


def score_copies(out: Path, sweep: Sweep, items: Sequence[Item]) -> None:
    """Score the distance of each image to a copy of its references, as the module `copies` defines it."""

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
    """Score each image against its references, then rewrite OUT/scores.csv.

    Args:
        out: folder of the sweep.
        sweep: the sweep that was drawn.
        items: items of the benchmark.
        name: name in the file name of the scores.
        measure: returns the scores by name of an image, its item and its reference files.
        groups: groups of the items to score; None for all.
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
            _append(out / folder, name, batch, columns)
    write_scores(out, sweep, items)


def write_scores(out: Path, sweep: Sweep, items: Sequence[Item]) -> None:
    """Write OUT/scores.csv with all scores and ratings."""
    records.write(out / SCORES, _merged(out, sweep, {item.key: item for item in items}))


def read_images(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[Pixels]:
    """Return the images of rows of a setting's drawn.csv."""
    return [read_image(folder / row["file"]) for row in rows]


def read_image(file: Path) -> Pixels:
    """Return an image file's pixels."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _drawn_folders(out: Path, sweep: Sweep) -> list[str]:
    return [name for name in sweep.folders() if (out / name / DRAWN).exists()]


def _score(folder: Path, name: str, judge: Judge, items: Mapping[str, Item]) -> None:
    rows = _unscored(folder, name)
    if unknown := {row["key"] for row in rows} - items.keys():
        raise InvalidArgument(f"{folder} has an image of {min(unknown)!r}, which is not an item of the benchmark")
    for batch in tqdm(list(_batches(rows)), desc=f"{name}: {folder.name}", unit="batch", leave=False):
        _append(folder, name, batch, judge.scores(read_images(folder, batch), [items[row["key"]] for row in batch]))


def _unscored(folder: Path, name: str) -> list[dict[str, str]]:
    done = {(row["key"], row["sample"]) for row in records.read(folder / f"scores-{name}.csv")}
    return [row for row in records.read(folder / DRAWN) if (row["key"], row["sample"]) not in done]


def _append(folder: Path, name: str, rows: Sequence[Mapping[str, str]], scores: Scores) -> None:
    records.append(
        folder / f"scores-{name}.csv",
        (
            {"key": row["key"], "sample": row["sample"]}
            | {column: f"{values[index]:.6g}" for column, values in scores.items()}
            for index, row in enumerate(rows)
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
