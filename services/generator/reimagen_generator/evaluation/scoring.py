"""Scores the pictures of a sweep by judges, into one CSV from which every table is made.

OUT/SETTING/scores-JUDGE.csv    grows as the judge works, and is kept when it is killed
OUT/scores.csv                  setting, key, group, sample, seed, drift, and a column for each score
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from tqdm import tqdm

from reimagen_common.errors import InvalidArgument
from reimagen_generator.evaluation import records
from reimagen_generator.evaluation.benches.item import Item
from reimagen_generator.evaluation.judges.judge import Judge, Picture
from reimagen_generator.evaluation.runs import DRAWN
from reimagen_generator.evaluation.sweep import Sweep

SCORES = "scores.csv"
_BATCH = 50


def score(out: Path, sweep: Sweep, items: Sequence[Item], judges: Mapping[str, Judge]) -> None:
    """Scores what is drawn and not scored yet, then writes OUT/scores.csv anew.

    Raises:
        ValueError: a judge cannot tell what an item asks for.
    """
    known = {item.key: item for item in items}
    for name, judge in judges.items():
        for folder in _drawn_folders(out, sweep):
            _score(out / folder, name, judge, known)
    records.write(out / SCORES, _merged(out, sweep, known))


def read_pictures(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[Picture]:
    """The pictures of rows of a setting's drawn.csv."""
    return [read_picture(folder / row["file"]) for row in rows]


def read_picture(file: Path) -> Picture:
    """A picture file's pixels."""
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def _drawn_folders(out: Path, sweep: Sweep) -> list[str]:
    return [name for name in sweep.folders() if (out / name / DRAWN).exists()]


def _score(folder: Path, name: str, judge: Judge, items: Mapping[str, Item]) -> None:
    file = folder / f"scores-{name}.csv"
    there = {(row["key"], row["sample"]) for row in records.read(file)}
    rows = [row for row in records.read(folder / DRAWN) if (row["key"], row["sample"]) not in there]
    if unknown := {row["key"] for row in rows} - items.keys():
        raise InvalidArgument(f"{folder} has a picture of {min(unknown)!r}, which is none of the items")
    for batch in tqdm(list(_batches(rows)), desc=f"{name}: {folder.name}", unit="batch", leave=False):
        scores = judge.scores(read_pictures(folder, batch), [items[row["key"]] for row in batch])
        records.append(
            file,
            (
                {"key": row["key"], "sample": row["sample"]}
                | {column: f"{values[place]:.6g}" for column, values in scores.items()}
                for place, row in enumerate(batch)
            ),
        )


def _merged(out: Path, sweep: Sweep, items: Mapping[str, Item]) -> Iterator[records.Row]:
    for folder in _drawn_folders(out, sweep):
        judged: dict[tuple[str, str], dict[str, str]] = {}
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


def column(rows: Sequence[Mapping[str, str]], name: str) -> Float[np.ndarray, " rows"]:
    """A column of numbers; NaN where there is none."""
    return np.array([float(row.get(name) or "nan") for row in rows])
