"""Measures that a copy of the reference in its own place fails: stated geometry, variety, and the use of references.

It adds several entities, faint things and scenes in unseen words. Every figure is reported next to that of true images,
and next to an earlier cascade's if one is given.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
from PIL import Image
from tqdm import tqdm

from reimagen_demo.art.icons import Art
from reimagen_demo.art.images import ArtImages
from reimagen_demo.art.pairs import STYLE_NAMES
from reimagen_demo.data.compose import Writer, write_samples
from reimagen_demo.data.composer import Composer
from reimagen_demo.data.recipes import Recipe
from reimagen_demo.data.references import Reference
from reimagen_demo.report.detail import true_images
from reimagen_demo.report.prompts import FAINT, GEOMETRY, SEEDS, THREE, TWO, UNSEEN, Prompt
from reimagen_demo.report.recognized import Values, true_close_ups
from reimagen_demo.report.sweep import BEFORE, NOW, PER_ENTITY
from reimagen_demo.report.tables import TRUE, Row
from reimagen_evaluation import records, scoring
from reimagen_evaluation.judges.classifier import TrainedClassifier
from reimagen_evaluation.judges.entity import EntityJudge
from reimagen_evaluation.rating.pairs import preference
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

_Bar = Callable[[Estimate, Estimate | None], bool | None]
"""Whether the figure of these weights meets a bar, given that of true images."""
COLUMNS: Final = (BEFORE, NOW)
KINDS: Final = ("right", "shuffled", "none")
OF_TRUE: Final = 0.85
"""Least share of the true images' rate."""
_AXES: Final[Mapping[str, str]] = {
    GEOMETRY: "geometry",
    TWO: "two",
    THREE: "three",
    UNSEEN: "words",
    **dict.fromkeys(FAINT, "faint"),
}
"""The axis that draws each group whose scores are compared with those of true images."""
_SCORES: Final = (
    "obeyed",
    "copied in place",
    "close-up entity",
    "close-up faithful",
    "some there",
    "arranged",
    "scene",
)


@dataclass(frozen=True)
class Shown:
    """The measurements; empty for sections that were not measured."""

    scores: Mapping[str, Mapping[str, Values]]
    """Scores by group of the prompts, then by label of the axis, and for `true`."""
    variety: Mapping[str, Variety]
    """Variety by label of the axis, and for `true`."""
    losses: Mapping[str, Sequence[ReferenceUse]]
    """Denoising losses by label."""


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
    scores = {
        group: _scores(out, drawn, group, prompts, art, classifier)
        for group, axis in _AXES.items()
        if axis in drawn.axes
    }
    varieties: dict[str, Variety] = {}
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
    return Shown(scores, varieties, losses)


def _scores(
    out: Path, drawn: Sweep, group: str, prompts: Sequence[Prompt], art: Art, classifier: TrainedClassifier
) -> dict[str, Values]:
    """Return the scores of a group's drawn images by label, and those of true images."""
    axis, read = _AXES[group], scored.read(out)
    items = drawn.axes[axis].items([prompt.item for prompt in prompts])
    keys = [item.key for item in items if item.group == group]
    found: dict[str, Values] = {}
    for label, setting in drawn.settings(axis).items():
        folder = drawn.folder(setting)
        values: Values = {name: read.of(folder, keys, name) for name in _SCORES if name in read.names}
        found[NOW if label == PER_ENTITY else label] = values
    chosen = [prompt for prompt in prompts if prompt.item.key in set(keys)]
    side = next(iter(drawn.settings(axis).values())).size
    if group == UNSEEN:
        images = true_images(chosen, art, side)
        found[TRUE] = dict(EntityJudge(classifier).scores(images, [prompt.item for prompt in chosen]))
    else:
        found[TRUE] = true_close_ups(chosen, art, side, classifier)
    return found


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


def rows(shown: Shown) -> list[Row]:
    """Return the rows of the table of measures."""
    return [*_score_rows(shown), *_variety_rows(shown), *_loss_rows(shown)]


def loss_table(losses: Mapping[str, Sequence[ReferenceUse]]) -> str:
    """Return the denoising losses in Markdown."""
    lines = ["| t | " + " | ".join(f"{label}: {kind}" for label in losses for kind in KINDS) + " |"]
    lines.append("|---" * (1 + len(KINDS) * len(losses)) + "|")
    for rows in zip(*losses.values(), strict=True):
        figures = [f"{getattr(row, kind):.4f}" for row in rows for kind in KINDS]
        lines.append(f"| {rows[0].time:g} | {' | '.join(figures)} |")
    return "\n".join(lines)


def preference_rows(out: Path, drawn: Sweep) -> list[Row]:
    """Return the rows of what people preferred in blind pairs; none without ratings."""
    if "geometry" not in drawn.axes:
        return []
    folders = {label: drawn.folder(setting) for label, setting in drawn.settings("geometry").items()}
    found = []
    for other, words, bar in ((folders.get(BEFORE), "the weights before", 0.9), (TRUE, "true images", None)):
        share = other and preference(out, folders[NOW], other)
        if share:
            met = None if bar is None else share.value >= bar
            measure = f"blind pairs: these weights preferred to {words} (n = {share.n})"
            found.append(
                Row(measure, "reported only" if bar is None else "≥ 90 %", "", format_estimate(share), "", met)
            )
    return found


def write_true(out: Path, prompts: Sequence[Prompt], art: Art, side: int) -> None:
    """Write a true image of each prompt into OUT/true, as a sweep stores images, for blind pairs; keep those there."""
    folder = out / TRUE
    folder.mkdir(parents=True, exist_ok=True)
    done = {row["key"] for row in records.read(folder / DRAWN)}
    missing = [prompt for prompt in prompts if prompt.item.key not in done]
    for prompt, pixels in zip(missing, true_images(missing, art, side), strict=True):
        file = f"{prompt.item.key}.png"
        Image.fromarray(pixels).save(folder / file)
        records.append(folder / DRAWN, [{"key": prompt.item.key, "sample": 0, "file": file, "neighbors": ""}])


def _score_rows(shown: Shown) -> list[Row]:
    """Return the rows of shares of images, each a score of a group."""
    of_true = f"≥ {OF_TRUE:.0%} of true images'".replace("%", " %")
    bars: list[tuple[str, str, str, str, _Bar]] = [
        (GEOMETRY, "obeyed", "stated place, size, mirroring and turn all obeyed", "≥ 85 %", _at_least(0.85)),
        (GEOMETRY, "close-up faithful", "faithful on the same prompts, the entity in its close-up", of_true, _of_true),
        (GEOMETRY, "copied in place", "copied in place although the prompt contradicts it", "≤ 5 %", _at_most(0.05)),
        (TWO, "close-up entity", "two entities, both there and not blended", of_true, _of_true),
        (TWO, "arranged", "the same, in the stated order or places", "reported only", _no_bar),
        (THREE, "close-up entity", "three entities, all there", "reported only", _no_bar),
        (UNSEEN, "scene", "scene right when named with words that training never used", "≥ 80 %", _at_least(0.8)),
        *((kind, "close-up entity", f"{kind} things recognized", "reported only", _no_bar) for kind in FAINT),
    ]
    found = []
    for group, name, measure, bar, check in bars:
        by_label = shown.scores.get(group, {})
        means = {label: statistics.mean(values[name]) if name in values else None for label, values in by_label.items()}
        now = means.get(NOW)
        if now is None:
            continue
        cells = {label: format_estimate(mean) for label, mean in means.items() if mean is not None}
        met = check(now, means.get(TRUE))
        found.append(Row(f"{measure} (n = {now.n})", bar, cells.get(BEFORE, ""), cells[NOW], cells.get(TRUE, ""), met))
    return found


def _variety_rows(shown: Shown) -> list[Row]:
    if NOW not in shown.variety:
        return []
    true = shown.variety[TRUE]

    def row(measure: str, bar: str, of: Callable[[Variety], float], least: float | None) -> Row:
        shares = {label: of(one) / of(true) if of(true) else math.nan for label, one in shown.variety.items()}
        cells = [
            f"{shares[label]:.2f} ({of(shown.variety[label]):.3g})" if label in shares else "" for label in COLUMNS
        ]
        met = None if least is None else shares[NOW] >= least
        return Row(measure, bar, cells[0], cells[1], f"1 ({of(true):.3g})", met)

    return [
        row(
            f"variety: distance between {SEEDS} seeds over true images', in the judge's features",
            "≥ 0.6",
            lambda one: one.features,
            0.6,
        ),
        row("the same, in pixels", "reported only", lambda one: one.pixels, None),
    ]


def _loss_rows(shown: Shown) -> list[Row]:
    if NOW not in shown.losses:
        return []
    helpful = {label: _helpful_times(rows) for label, rows in shown.losses.items()}
    needed = [f"{row.time:g}" for row in shown.losses[NOW] if row.time >= FROM_TIME]
    cells = [", ".join(helpful[label]) or "none" if label in helpful else "" for label in COLUMNS]
    return [
        Row(
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


def _at_least(bar: float) -> _Bar:
    return lambda now, _: now.value >= bar


def _at_most(bar: float) -> _Bar:
    return lambda now, _: now.value <= bar


def _of_true(now: Estimate, true: Estimate | None) -> bool | None:
    return None if true is None else now.value >= OF_TRUE * true.value


def _no_bar(now: Estimate, true: Estimate | None) -> None:
    return None


def _by_prompt(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Group the images, which are ordered by prompt, by prompt."""
    return [np.stack(images[first : first + SEEDS]) for first in range(0, len(images), SEEDS)]
