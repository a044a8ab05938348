"""Fine detail: grain and width of edges over true images', super-resolution over bicubic, and seconds per image."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
from tqdm import tqdm

from reimagen_demo.art.icons import Art
from reimagen_demo.art.images import ArtImages
from reimagen_demo.art.pairs import STYLE_NAMES
from reimagen_demo.data.compose import Writer, write_samples
from reimagen_demo.data.composer import Composer
from reimagen_demo.data.recipes import Recipe
from reimagen_demo.report.prompts import Prompt
from reimagen_demo.report.sweep import BEFORE, NOW
from reimagen_demo.report.tables import TRUE, Row
from reimagen_evaluation import records, scoring
from reimagen_evaluation.report.tables import NOTHING
from reimagen_evaluation.runs import DRAWN
from reimagen_evaluation.setting import Setting
from reimagen_evaluation.sharpness import edge_width, grain
from reimagen_evaluation.super_resolution import Enlarged, super_resolution
from reimagen_evaluation.sweep import Sweep
from reimagen_generator.weights import checkpoint

SUPER_RESOLUTION: Final = "super-resolution"
"""Name of the section of super-resolution of true images, which draws no prompt."""
ENLARGED: Final = 50
"""Number of true images that are shrunk and upsampled."""
COMPARED: Final = 40
"""Greatest number of images of each size whose grain and edges are measured."""
MOST: Final = 1.5
"""Greatest grain and width of edges over true images'."""
GAIN, WORST = 1.5, -0.3
"""Least mean gain, and least gain of any image, of super-resolution over bicubic upsampling, in decibels."""
SECONDS: Final = {256: 5.0, 1024: 15.0}
"""Most seconds per image, by its side in pixels."""
NO_NEIGHBORS: Final = "without neighbors"


@dataclass(frozen=True)
class Sharpness:
    """Means over images of one size."""

    grain: float
    edge_width: float
    images: int


@dataclass(frozen=True)
class Detail:
    """The measurements; empty for sections that were not measured."""

    sharpness: Mapping[int, Mapping[str, Sharpness]]
    """By side in pixels, then by label, and for `true`."""
    seconds: Mapping[int, Mapping[str, float]]
    """Median seconds per image, by side in pixels, then by label."""
    enlarged: Mapping[int, Mapping[str, Enlarged]]
    """By the side that a stage draws, then by label, and for `true` and `bicubic`."""


def sharpness(images: Sequence[np.ndarray]) -> Sharpness:
    """Return the mean grain and width of edges of images."""
    widths = np.array([edge_width(image) for image in images])
    return Sharpness(
        float(np.mean([grain(image) for image in images])),
        float(np.nanmean(widths)) if not np.isnan(widths).all() else float("nan"),
        len(images),
    )


def measure(
    out: Path, drawn: Sweep, prompts: Sequence[Prompt], art: Art, enlarged: Mapping[int, Mapping[str, Enlarged]]
) -> Detail:
    """Measure the drawn images of each size, and true images of the same prompts.

    Args:
        out: folder of the sweep.
        drawn: the sweep that was drawn.
        prompts: all prompts.
        art: icon art, from which true images are composed.
        enlarged: measures of super-resolution that were taken before.
    """
    found: dict[int, dict[str, Sharpness]] = {}
    seconds: dict[int, dict[str, float]] = {}
    for axis in ("retriever", "geometry", "large"):
        if axis not in drawn.axes:
            continue
        keys = [item.key for item in drawn.axes[axis].items([prompt.item for prompt in prompts])][:COMPARED]
        labels = _labels(drawn, axis)
        side = next(iter(labels.values())).size
        for label, setting in labels.items():
            folder = out / drawn.folder(setting)
            rows = {row["key"]: row for row in records.read(folder / DRAWN)}
            images = scoring.read_images(folder, [rows[key] for key in keys])
            found.setdefault(side, {})[label] = sharpness(images)
            if axis != "retriever":
                times = [float(row["seconds"]) for row in rows.values()]
                seconds.setdefault(side, {})[label] = float(np.median(times))
        true = [prompt for prompt in prompts if prompt.item.key in set(keys)]
        found[side][TRUE] = sharpness(true_images(true, art, side))
    return Detail(found, seconds, enlarged)


def _labels(drawn: Sweep, axis: str) -> dict[str, Setting]:
    """Return the settings whose images are compared, by the table's label."""
    settings = drawn.settings(axis)
    if axis == "retriever":
        return {NOW: next(iter(settings.values())), NO_NEIGHBORS: settings["none"]}
    first = {NOW: next(iter(settings.values()))}
    return first | ({BEFORE: settings[BEFORE]} if BEFORE in settings else {})


def true_images(prompts: Sequence[Prompt], art: Art, side: int) -> list[np.ndarray]:
    """Return a true image of each prompt."""
    composer, images = Composer(ArtImages(art), side), []
    for prompt in tqdm(prompts, desc=f"true images of {side} px", unit="image"):
        rng = Random(f"results/true/{prompt.item.key}")
        styles = [rng.choice(STYLE_NAMES) for _ in prompt.composition.things]
        images.append(np.asarray(composer.image(rng, prompt.composition, styles)))
    return images


def measured_super_resolution(
    cascades: Mapping[str, Path], out: Path, prompts: Sequence[Prompt], art: Art, most: int | None
) -> dict[int, dict[str, Enlarged]]:
    """Return the measures of each cascade's super-resolution stages on shrunk true images of the prompts."""
    count = min(ENLARGED, most or ENLARGED)
    measured: dict[int, dict[str, Enlarged]] = {}
    for label, weights in cascades.items():
        for stage, config in enumerate(checkpoint.load_config(weights).stages[1:], start=1):
            data = _true_shards(out, prompts[:count], art, config.size)
            rows = list(super_resolution([weights], stage, data, count))
            measured.setdefault(config.size, {}).update(zip((TRUE, "bicubic", label), rows, strict=True))
    return measured


def _true_shards(out: Path, prompts: Sequence[Prompt], art: Art, size: int) -> Path:
    """Write true images of the prompts as training shards, if they are not there, and return their folder."""
    folder = out / f"{SUPER_RESOLUTION}-{size}"
    shard = folder / f"{len(prompts)}.tar"
    for other in set(folder.glob("*.tar")) - {shard}:
        other.unlink()
    if not shard.exists():
        folder.mkdir(parents=True, exist_ok=True)
        writer = Writer(Composer(ArtImages(art), size))
        recipes = (
            Recipe(number, prompt.item.prompt, prompt.composition, (STYLE_NAMES[number % len(STYLE_NAMES)],), ())
            for number, prompt in enumerate(prompts)
        )
        write_samples(shard, ((r.number, writer.sample(Random(f"results/true/{r.prompt}"), r)) for r in recipes))
    return folder


def rows(detail: Detail) -> list[Row]:
    """Return the rows of the table of measures."""
    return [*_sharpness_rows(detail), *_super_resolution_rows(detail), *_seconds_rows(detail)]


def _sharpness_rows(detail: Detail) -> list[Row]:
    found = []
    for side, by_label in detail.sharpness.items():
        true = by_label[TRUE]
        for name, of in (("grain", attrgetter("grain")), ("width of edges", attrgetter("edge_width"))):
            shares = {label: of(one) / of(true) if of(true) else float("nan") for label, one in by_label.items()}
            cells = {label: f"{_share(shares[label])} ({of(one):.3g})" for label, one in by_label.items()}
            barred = side in SECONDS
            bar = f"≤ {MOST:g}" if barred else "reported only"
            met = shares[NOW] <= MOST if barred and not math.isnan(shares[NOW]) else None
            n = by_label[NOW].images
            measure = f"{name} at {side} px over true images'"
            found.append(Row(f"{measure} (n = {n})", bar, cells.get(BEFORE, ""), cells[NOW], cells[TRUE], met))
            if NO_NEIGHBORS in cells:
                found.append(Row(f"the same, {NO_NEIGHBORS}", bar, "", cells[NO_NEIGHBORS], cells[TRUE], None))
    return found


def _share(share: float) -> str:
    """Format a ratio to true images; there is none if theirs is zero, as flat art of 1024 pixels has no grain."""
    return NOTHING if math.isnan(share) else f"{share:.2f}"


def _super_resolution_rows(detail: Detail) -> list[Row]:
    found = []
    for side, by_label in detail.enlarged.items():

        def cell(label: str, by_label: Mapping[str, Enlarged] = by_label) -> str:
            one = by_label.get(label)
            return "" if one is None else f"{one.gain:+.2f} dB, worst {one.worst_gain:+.2f} dB"

        now = by_label[NOW]
        met = now.gain >= GAIN and now.worst_gain >= WORST
        measure = f"super-resolution of true images to {side} px over bicubic (PSNR; worst image)"
        bar = f"≥ {GAIN:+g} dB, worst ≥ {WORST:g} dB"
        found.append(Row(measure, bar, cell(BEFORE), cell(NOW), "", met))
    return found


def _seconds_rows(detail: Detail) -> list[Row]:
    found = []
    for side, by_label in detail.seconds.items():
        cells = {label: f"{seconds:.2f} s" for label, seconds in by_label.items()}
        most = SECONDS.get(side)
        measure = f"seconds per image of {side} px, median; cores: {len(os.sched_getaffinity(0))}"
        met = None if most is None else by_label[NOW] <= most
        bar = "" if most is None else f"≤ {most:g} s"
        found.append(Row(measure, bar, cells.get(BEFORE, ""), cells[NOW], "", met))
    return found
