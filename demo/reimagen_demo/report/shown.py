"""Measures that a copy of the reference in its own place fails: stated geometry, variety, and the use of references.

Every figure is reported next to that of true images, and next to an earlier cascade's if one is given.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from reimagen_demo.data.references import Reference
from reimagen_demo.report.geometry import CutOuts, scores_of
from reimagen_demo.report.prompts import GEOMETRY, SEEDS, Prompt
from reimagen_demo.report.sweep import BEFORE, NOW
from reimagen_evaluation import records, scoring
from reimagen_evaluation.judges.classifier import TrainedClassifier
from reimagen_evaluation.judges.entity import EntityJudge
from reimagen_evaluation.reference_use import ReferenceUse, reference_use
from reimagen_evaluation.report import scores as scored
from reimagen_evaluation.report import statistics
from reimagen_evaluation.report.statistics import Estimate
from reimagen_evaluation.report.tables import format_estimate
from reimagen_evaluation.runs import DRAWN
from reimagen_evaluation.sweep import Sweep
from reimagen_evaluation.variety import Variety, variety
from reimagen_generator.weights import checkpoint

REFERENCE_USE: Final = "reference-use"
"""Name of the section of denoising losses, which draws nothing."""
LOSS_SAMPLES: Final = 64
FROM_TIME: Final = 0.3
"""Least time of the diffusion at which the right references must help."""

TRUE: Final = "true"
COLUMNS: Final = (BEFORE, NOW)
KINDS: Final = ("right", "shuffled", "none")

Values = Mapping[str, np.ndarray]
_Row = tuple[str, str, str, str, str, bool | None]
"""Measure, bar, earlier weights', these weights', true images', and whether the bar is met."""


@dataclass(frozen=True)
class Shown:
    """The measurements; empty for sections that were not measured."""

    geometry: Mapping[str, Values]
    """Scores of images of prompts that state geometry, by label of the axis, and for `true`."""
    variety: Mapping[str, Variety]
    """Variety by label of the axis, and for `true`."""
    losses: Mapping[str, Sequence[ReferenceUse]]
    """Denoising losses by label."""


def score_geometry(out: Path, drawn: Sweep, prompts: Sequence[Prompt], art: Art) -> None:
    """Register the references in all images whose prompts state geometry, and score the poses."""
    cutouts = CutOuts(art)
    things = {prompt.item.key: prompt.composition.things[0] for prompt in prompts}
    scoring.score_by_references(
        out,
        drawn,
        [prompt.item for prompt in prompts],
        "geometry",
        lambda image, item, references: cutouts.measure(things[item.key], image, references),
        groups=(GEOMETRY,),
    )


def measure(
    out: Path,
    drawn: Sweep,
    prompts: Sequence[Prompt],
    art: Art,
    classifier: TrainedClassifier,
    losses: Mapping[str, Sequence[ReferenceUse]],
) -> Shown:
    """Measure the drawn images, and true images of the same prompts.

    Args:
        out: folder of the sweep.
        drawn: the sweep that was drawn.
        prompts: all prompts.
        art: icon art, from which true images are composed.
        classifier: the judge's classifier.
        losses: denoising losses that were measured before.
    """
    geometry: dict[str, Values] = {}
    varieties: dict[str, Variety] = {}
    if "geometry" in drawn.axes:
        read = scored.read(out)
        keys = [item.key for item in drawn.axes["geometry"].items([prompt.item for prompt in prompts])]
        for label, setting in drawn.settings("geometry").items():
            folder = drawn.folder(setting)
            geometry[label] = {name: read.of(folder, keys, name) for name in ("obeyed", "copied in place", "faithful")}
        side = next(iter(drawn.settings("geometry").values())).size
        geometry[TRUE] = true_geometry([p for p in prompts if p.item.key in set(keys)], art, side, classifier)
    if "variety" in drawn.axes:
        items = drawn.axes["variety"].items([prompt.item for prompt in prompts])
        keys = [item.key for item in items]
        for label, setting in drawn.settings("variety").items():
            run = out / drawn.folder(setting)
            files = {row["key"]: row["file"] for row in records.read(run / DRAWN)}
            images = [scoring.read_image(run / files[key]) for key in keys]
            varieties[label] = variety(_by_prompt(images), classifier.features)
        true = true_variety([p for p in prompts if p.item.key in set(keys)], art)
        varieties[TRUE] = variety(_by_prompt(true), classifier.features)
    return Shown(geometry, varieties, losses)


def true_geometry(prompts: Sequence[Prompt], art: Art, side: int, classifier: TrainedClassifier) -> Values:
    """Return the scores of a true image of each prompt."""
    composer, cutouts, judge = Composer(ArtImages(art), side), CutOuts(art), EntityJudge(classifier)
    rows, images = [], []
    for prompt in tqdm(prompts, desc="true geometry", unit="image"):
        rng = Random(f"results/true/{prompt.item.key}")
        style = rng.choice(STYLE_NAMES)
        thing = prompt.composition.things[0]
        images.append(np.asarray(composer.image(rng, prompt.composition, [style])))
        rows.append(scores_of(thing, [cutouts.of(thing.entity, style)], images[-1]))
    faithful = judge.scores(images, [prompt.item for prompt in prompts])["faithful"]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} | {"faithful": faithful}


def true_variety(prompts: Sequence[Prompt], art: Art) -> list[np.ndarray]:
    """Return a true image for each seed of each prompt, in one style for all seeds of a prompt."""
    composer, images = Composer(ArtImages(art), 64), []
    for prompt in tqdm(prompts, desc="true variety", unit="image"):
        style = Random(f"results/true/{prompt.item.prompt}").choice(STYLE_NAMES)
        rng = Random(f"results/true/{prompt.item.key}")
        images.append(np.asarray(composer.image(rng, prompt.composition, [style])))
    return images


def measured_losses(
    cascades: Mapping[str, Path], out: Path, prompts: Sequence[Prompt], art: Art, most: int | None
) -> dict[str, Sequence[ReferenceUse]]:
    """Return the denoising losses of each cascade's first stage, on true images of prompts that state geometry."""
    count = max(16, min(LOSS_SAMPLES, most or LOSS_SAMPLES))
    measured: dict[str, Sequence[ReferenceUse]] = {}
    for label, weights in cascades.items():
        config = checkpoint.load_config(weights)
        size, k = config.stages[0].size, max(1, config.default_k)
        folder = out / f"{REFERENCE_USE}-{size}-{k}"
        shard = folder / f"{count}.tar"
        if not shard.exists():
            folder.mkdir(parents=True, exist_ok=True)
            writer = Writer(Composer(ArtImages(art), size))
            recipes = [_recipe(number, prompt, k) for number, prompt in enumerate(prompts[:count])]
            samples = ((r.number, writer.sample(Random(f"results/true/{r.prompt}"), r)) for r in recipes)
            write_samples(shard, samples)
        measured[label] = list(reference_use(weights, 0, folder, count, k))
    return measured


def _recipe(number: int, prompt: Prompt, k: int) -> Recipe:
    """Return a sample of a prompt with references as in the knowledge base, the first in the thing's style."""
    thing = prompt.composition.things[0]
    first = number % len(STYLE_NAMES)
    styles = [STYLE_NAMES[(first + rank) % len(STYLE_NAMES)] for rank in range(k)]
    references = tuple(Reference(thing.entity, style, 0, mirrored=False, varied=False) for style in styles)
    return Recipe(number, prompt.item.prompt, prompt.composition, (styles[0],), references)


def table(shown: Shown) -> str:
    """Return the measures, their bars and whether they are met, in Markdown."""
    rows = [*_geometry_rows(shown), *_variety_rows(shown), *_loss_rows(shown)]
    if not rows:
        return ""
    lines = ["| measure | bar | before | these weights | true images | met |", "|---|---|---|---|---|---|"]
    for name, bar, before, now, true, met in rows:
        lines.append(
            f"| {name} | {bar} | {before} | {now} | {true} | {'' if met is None else 'yes' if met else '**no**'} |"
        )
    return "\n".join(lines)


def loss_table(losses: Mapping[str, Sequence[ReferenceUse]]) -> str:
    """Return the denoising losses in Markdown."""
    lines = ["| t | " + " | ".join(f"{label}: {kind}" for label in losses for kind in KINDS) + " |"]
    lines.append("|---" * (1 + len(KINDS) * len(losses)) + "|")
    for rows in zip(*losses.values(), strict=True):
        figures = [f"{getattr(row, kind):.4f}" for row in rows for kind in KINDS]
        lines.append(f"| {rows[0].time:g} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _geometry_rows(shown: Shown) -> list[_Row]:
    if NOW not in shown.geometry:
        return []
    means = {
        name: {label: statistics.mean(values[name]) for label, values in shown.geometry.items()}
        for name in ("obeyed", "faithful", "copied in place")
    }

    def row(name: str, measure: str, bar: str, met: bool | None) -> _Row:
        of = means[name]
        before = format_estimate(of[BEFORE]) if BEFORE in of else ""
        return measure, bar, before, format_estimate(of[NOW]), format_estimate(of[TRUE]), met

    obeyed, copied = means["obeyed"][NOW], means["copied in place"][NOW]
    faithful, true = means["faithful"][NOW], means["faithful"][TRUE]
    return [
        row("obeyed", "stated place, size, mirroring and turn all obeyed", "≥ 85 %", _at_least(obeyed, 0.85)),
        row(
            "faithful",
            "faithful on the same prompts",
            "≥ 85 % of true images'",
            None if true is None else _at_least(faithful, 0.85 * true.value),
        ),
        row(
            "copied in place",
            "copied in place although the prompt contradicts it",
            "≤ 5 %",
            None if copied is None else copied.value <= 0.05,
        ),
    ]


def _variety_rows(shown: Shown) -> list[_Row]:
    if NOW not in shown.variety:
        return []
    true = shown.variety[TRUE]

    def row(measure: str, bar: str, of: Callable[[Variety], float], least: float | None) -> _Row:
        shares = {label: of(one) / of(true) if of(true) else math.nan for label, one in shown.variety.items()}
        cells = [
            f"{shares[label]:.2f} ({of(shown.variety[label]):.3g})" if label in shares else "" for label in COLUMNS
        ]
        return measure, bar, cells[0], cells[1], f"1 ({of(true):.3g})", None if least is None else shares[NOW] >= least

    return [
        row(
            f"variety: distance between {SEEDS} seeds over true images', in the judge's features",
            "≥ 0.6",
            lambda one: one.features,
            0.6,
        ),
        row("the same, in pixels", "reported only", lambda one: one.pixels, None),
    ]


def _loss_rows(shown: Shown) -> list[_Row]:
    if NOW not in shown.losses:
        return []
    helpful = {label: _helpful_times(rows) for label, rows in shown.losses.items()}
    needed = [f"{row.time:g}" for row in shown.losses[NOW] if row.time >= FROM_TIME]
    cells = [", ".join(helpful[label]) or "none" if label in helpful else "" for label in COLUMNS]
    return [
        (
            "times t at which the loss with the right references is below none and shuffled, the object elsewhere",
            f"every t ≥ {FROM_TIME:g}",
            cells[0],
            cells[1],
            "",
            set(needed) <= set(helpful[NOW]),
        )
    ]


def _helpful_times(rows: Sequence[ReferenceUse]) -> list[str]:
    return [f"{row.time:g}" for row in rows if row.right < min(row.shuffled, row.none)]


def _at_least(estimate: Estimate | None, bar: float) -> bool | None:
    return None if estimate is None else estimate.value >= bar


def _by_prompt(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Group the images, which are ordered by prompt, by prompt."""
    return [np.stack(images[first : first + SEEDS]) for first in range(0, len(images), SEEDS)]
