"""`make results`: the paper's claims, measured on the demonstration's weights and written to docs/results.md.

It draws with the shipped cascade and with the one that was trained without neighbors, grounded by the real retriever,
scores with the judge, and writes the page. A run that was killed at any moment resumes. The prompts' seeds are not used
in training.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Annotated, Final

import numpy as np
import typer
from PIL import Image
from tqdm import tqdm

from reimagen_common.errors import ReimagenError
from reimagen_common.local_redis import LocalRedis
from reimagen_demo.art.icons import STYLES, Art, Style
from reimagen_demo.art.images import ArtImages, PairImages
from reimagen_demo.data.composer import Composer
from reimagen_demo.judge.train import SHIPPED as SHIPPED_JUDGE
from reimagen_demo.report import compared_bases, detail, recognized, tables
from reimagen_demo.report import shown as results_shown
from reimagen_demo.report.claims import Distance, Evidence, claims
from reimagen_demo.report.detail import SUPER_RESOLUTION
from reimagen_demo.report.prompts import GEOMETRY, GROUPS, Prompt, prompts
from reimagen_demo.report.shown import REFERENCE_USE
from reimagen_demo.report.sweep import BEFORE, BY_MEANING, IN_DOMAIN, NOW, OUT_OF_DOMAIN, SIZE, sweep
from reimagen_demo.stack import knowledge_base, running
from reimagen_demo.stack.running import console
from reimagen_evaluation import records, scoring
from reimagen_evaluation import sweep as sweeps
from reimagen_evaluation.benches import items as item_files
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.copies import copy_distance
from reimagen_evaluation.frechet import frechet_distance, moments
from reimagen_evaluation.grounding import Grounding
from reimagen_evaluation.judges.classifier import TrainedClassifier
from reimagen_evaluation.judges.entity import EntityJudge
from reimagen_evaluation.judges.judge import Pixels, Scores
from reimagen_evaluation.reference_use import ReferenceUse
from reimagen_evaluation.report import page, scores, sheets
from reimagen_evaluation.runs import DRAWN
from reimagen_evaluation.super_resolution import Enlarged
from reimagen_evaluation.sweep import Sweep
from reimagen_generator.generation.retriever_client import RetrieverClient
from reimagen_generator.jax_setup import keep_compiled
from reimagen_generator.settings import SHIPPED_WEIGHTS
from reimagen_generator.weights import checkpoint

TRAINED_ALONE: Final = SHIPPED_WEIGHTS.with_name("demo-without-neighbors")
BATCH: Final = 4
RESAMPLES: Final = 50
GALLERY_COLUMNS, GALLERY_CELL = 8, 192
READERS: Final = (
    "For readers who ask how much retrieval helps: the paper's claims, measured on the demonstration's weights."
)
FLOOR: Final = "true images"
"""Label of the distance between true images."""
CALIBRATED: Final = 100
"""Number of true images on which the measure of near copies is tested."""


class CropJudge:
    """A judge of the middle of an image, where its detail is: another judge's scores, with names prefixed by `crop`."""

    def __init__(self, judge: EntityJudge) -> None:
        """Take the other judge."""
        self._judge = judge

    def scores(self, images: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        """Return the scores of the middle three quarters of each side."""
        edges = [image.shape[0] // 8 for image in images]
        middles = [image[e : len(image) - e, e : len(image) - e] for image, e in zip(images, edges, strict=True)]
        return {f"crop {name}": values for name, values in self._judge.scores(middles, items).items()}


def main(
    weights: Annotated[Path, typer.Option(help="Folder of the cascade.")] = SHIPPED_WEIGHTS,
    alone: Annotated[Path, typer.Option(help="Folder of the cascade trained without neighbors.")] = TRAINED_ALONE,
    judge: Annotated[Path, typer.Option(help="Folder of the judge.")] = SHIPPED_JUDGE,
    before: Annotated[
        Path | None, typer.Option(help="Folder of an earlier cascade to compare geometry, variety and losses with.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Page to write [default: docs/results.md; with --only build/demo/results/page.md]."),
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of the demonstration's build.")] = Path("build/demo"),
    only: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only section to measure: geometry, variety, {REFERENCE_USE}, {SUPER_RESOLUTION}, main ...; "
            "repeatable."
        ),
    ] = None,
    prompts_at_most: Annotated[int | None, typer.Option(min=1, help="Most prompts per row, for a trial.")] = None,
) -> None:
    """Measure the paper's claims on the demonstration's weights, and write docs/results.md."""
    with running.report_errors():
        try:
            _run(weights, alone, before, judge, to, work, only, prompts_at_most)
        except (ValueError, ReimagenError) as error:
            raise RuntimeError(str(error)) from error


def _run(
    weights: Path,
    alone: Path,
    before: Path | None,
    judge_folder: Path,
    to: Path | None,
    work: Path,
    only: Sequence[str] | None,
    most: int | None,
) -> None:
    began, out = time.monotonic(), work / "results"
    page_file = to or (out / "page.md" if only else Path("docs/results.md"))
    other = alone if (alone / checkpoint.CONFIG_FILE).exists() else None
    if other is None:
        console.print(f"{alone} is missing: the page is written without the cascade trained without neighbors")
    all_prompts = prompts()
    items = [prompt.item for prompt in all_prompts]
    whole = sweep(weights, other, checkpoint.load_config(weights), most, before)
    drawn = whole if not only else _restricted(whole, only)
    out.mkdir(parents=True, exist_ok=True)
    item_files.write(items, out / item_files.ITEMS)
    classifier = TrainedClassifier.load(judge_folder)  # before hours of drawing, because it may be missing
    keep_compiled(work / "compiled")
    art = Art(work)
    art.install()
    clock = Clock()
    cascades = ({BEFORE: before} if before else {}) | {NOW: weights}
    losses: Mapping[str, Sequence[ReferenceUse]] = {}
    if not only or REFERENCE_USE in only:
        stating = [prompt for prompt in all_prompts if prompt.item.group == GEOMETRY]
        losses = results_shown.measured_losses(cascades, out, stating, art, most)
        clock.lap(REFERENCE_USE)
    enlarged: Mapping[int, Mapping[str, Enlarged]] = {}
    if not only or SUPER_RESOLUTION in only:
        held_out = [prompt for prompt in all_prompts if prompt.item.group == GROUPS[-1]]
        enlarged = detail.measured_super_resolution(cascades, out, held_out, art, most)
        clock.lap(SUPER_RESOLUTION)
    if drawn.axes:
        _draw_and_score(drawn, items, out, work, classifier, clock)
        recognized.score_close_ups(out, drawn, all_prompts, art, classifier)
        clock.lap("registration and close-ups")
    shown = results_shown.measure(out, drawn, all_prompts, art, classifier, losses)
    details = detail.measure(out, drawn, all_prompts, art, enlarged)
    clock.lap("true images")
    if "geometry" in drawn.axes:
        asked = {item.key for item in drawn.axes["geometry"].items(items)}
        side = next(iter(drawn.settings("geometry").values())).size
        results_shown.write_true(out, [prompt for prompt in all_prompts if prompt.item.key in asked], art, side)
    rows = [*results_shown.rows(shown), *detail.rows(details), *results_shown.preference_rows(out, drawn)]
    parts = [READERS, tables.table(rows)]
    if losses:
        parts += ["Denoising losses of true images whose objects are elsewhere than in their references:"]
        parts += [results_shown.loss_table(losses)]
    notes = {}
    if not only:
        evidence = measure_true(all_prompts, drawn, classifier, work)
        measured = distances(evidence, classifier, out)
        notes["base"] = distance_table(measured)
        parts.insert(1, claims(evidence, measured))
        clock.lap("true images of all prompts, and distances")
    preface = "\n\n".join(part for part in parts if part)
    if drawn.axes:
        page.write(drawn, items, out, page_file, preface=preface, notes=notes)
    else:
        page_file.write_text(f"# {drawn.title}\n\n{preface}\n", encoding="utf-8")
    if "large" in drawn.axes:
        gallery(drawn, out, page_file.with_suffix("") / "gallery.webp")
    clock.lap("page")
    console.print(clock.table())
    console.print(f"{page_file} is written, {time.monotonic() - began:.0f} s after the start")


class Clock:
    """The time that each part of a run took."""

    def __init__(self) -> None:
        """Start it."""
        self._last = time.monotonic()
        self._laps: list[tuple[str, float]] = []

    def lap(self, name: str) -> None:
        """Note the time since the last call."""
        now = time.monotonic()
        self._laps.append((name, now - self._last))
        self._last = now

    def table(self) -> str:
        """Return the parts and their seconds, one a line."""
        return "\n".join(f"{seconds:8.0f} s  {name}" for name, seconds in self._laps)


def _restricted(whole: Sweep, only: Sequence[str]) -> Sweep:
    """Return the sweep with only these axes.

    Raises:
        ValueError: there is no such section.
    """
    known = (*whole.axes, REFERENCE_USE, SUPER_RESOLUTION)
    for name in only:
        if name not in known:
            raise ValueError(f"only: {name!r} is not a section; sections are {', '.join(known)}")
    return whole.model_copy(update={"axes": {name: axis for name, axis in whole.axes.items() if name in only}})


def _draw_and_score(
    drawn: Sweep, items: Sequence[Item], out: Path, work: Path, classifier: TrainedClassifier, clock: Clock
) -> None:
    with retrievers(work, _named_bases(drawn)) as connections:
        clock.lap("knowledge bases")
        sweeps.draw(drawn, items, out, grounding=Grounding(items, connections), batch_size=BATCH)
    clock.lap("drawing")
    judge = EntityJudge(classifier)
    scoring.score_copies(out, drawn, items)
    scoring.score(out, drawn, items, {"judge": judge})
    if "large" in drawn.axes:
        folders = [drawn.folder(setting) for setting in drawn.settings("large").values()]
        scoring.score(out, drawn, items, {"crop": CropJudge(judge)}, folders)
    clock.lap("judging")


def _named_bases(drawn: Sweep) -> set[str]:
    """Return the names of the knowledge bases from which the sweep's settings take neighbors."""
    return {setting.neighbors for setting in drawn.folders().values()}


@contextmanager
def retrievers(folder: Path, names: Collection[str]) -> Iterator[Mapping[str, RetrieverClient]]:
    """Serve the demonstration's knowledge base and those it is compared with, each with a real retriever.

    Args:
        folder: folder of the demonstration's build.
        names: names of the bases to serve.

    Raises:
        ChildError: a retriever does not start.
    """
    knowledge_base.build(folder)  # the other bases are made from it
    builds = {
        IN_DOMAIN: knowledge_base.build,
        BY_MEANING: compared_bases.with_vectors,
        OUT_OF_DOMAIN: compared_bases.sketches,
    }
    bases = {name: build(folder) for name, build in builds.items() if name in names}
    with ExitStack() as started:
        redis = started.enter_context(LocalRedis())
        connections = {}
        for name, base in bases.items():
            child = started.enter_context(running.RetrieverProcess(base, redis.url, folder / "logs" / name))
            child.wait()
            connections[name] = RetrieverClient(child.address)
            started.callback(connections[name].close)
        yield connections


def measure_true(all_prompts: Sequence[Prompt], drawn: Sweep, classifier: TrainedClassifier, work: Path) -> Evidence:
    """Return true images of the prompts, the judge's scores of them, and their copy distances to pairs' drawings."""
    art, out = Art(work), work / "results"
    art.install()
    images = ArtImages(art)
    composer = Composer(images, SIZE)
    real, copied = [], {"the same drawing": list[float](), "another style": list[float]()}
    for prompt in tqdm(all_prompts, desc="true images", unit="image"):
        rng = Random(f"results/true/{prompt.item.key}")
        styles = [rng.choice(STYLES) for _ in prompt.composition.entities]
        real.append(np.asarray(composer.image(rng, prompt.composition, [style.name for style in styles])))
        if len(copied["another style"]) < CALIBRATED and len(styles) == 1:
            for name, style in (("the same drawing", styles[0]), ("another style", _another(styles[0]))):
                file = PairImages(art).file(prompt.composition.entities[0], style)
                copied[name].append(copy_distance(real[-1], [file]))
    items = [prompt.item for prompt in all_prompts]
    judged = EntityJudge(classifier).scores(real, items)
    records.write(out / "true.csv", (_true_row(item, judged, index) for index, item in enumerate(items)))
    return Evidence(drawn, items, scores.read(out), np.stack(real), dict(judged), copied)


def distances(evidence: Evidence, classifier: TrainedClassifier, out: Path) -> list[Distance]:
    """Measure the Fréchet distances to true images in the judge's features, by knowledge base; write them as CSV too.

    The last one is that of as many true images to the others, which no generator can go below.

    The interval is that of a normal distribution with the bootstrap's deviation, over the drawn images.
    """
    true = moments([classifier.features(evidence.true_of(GROUPS))])
    keys = {item.key for item in evidence.sweep.axes["base"].items(evidence.items)}
    measured = []
    for label, setting in evidence.sweep.settings("base").items():
        folder = out / evidence.sweep.folder(setting)
        drawn = [row for row in records.read(folder / DRAWN) if row["key"] in keys]
        features = classifier.features(np.stack(scoring.read_images(folder, drawn)))
        rng = np.random.default_rng(0)
        resampled = [
            frechet_distance(moments([features[rng.integers(0, len(features), len(features))]]), true)
            for _ in range(RESAMPLES)
        ]
        value, half = frechet_distance(moments([features]), true), 1.96 * float(np.std(resampled, ddof=1))
        measured.append(Distance(label, len(features), value, value - half, value + half))
    if measured:
        measured.append(_floor(evidence, classifier, measured[0].images))
    records.write(out / "distances-judge.csv", (asdict(row) for row in measured))
    return measured


def _floor(evidence: Evidence, classifier: TrainedClassifier, images: int) -> Distance:
    """Return the distance that as many true images have to the other true images, over random choices of them."""
    features = classifier.features(evidence.true_of(GROUPS))
    rng, found = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        order = rng.permutation(len(features))
        count = min(images, len(features) // 2)
        found.append(frechet_distance(moments([features[order[:count]]]), moments([features[order[count:]]])))
    low, high = np.percentile(found, (2.5, 97.5))
    return Distance(FLOOR, min(images, len(features) // 2), float(np.mean(found)), float(low), float(high))


def distance_table(measured: Sequence[Distance]) -> str:
    """Return the distances as a table in Markdown."""
    lines = [f"| {row.knowledge_base} | {row.images} | {row.cell} |" for row in measured]
    head = "Fréchet distance to true images of all prompts, in the judge's features (less is better):"
    return "\n".join([head, "", "| | n | distance |", "|---|---|---|", *lines])


def gallery(drawn: Sweep, out: Path, to: Path) -> None:
    """Write all images of the largest size on one sheet, in the order of the prompts, without selection."""
    folder = out / drawn.folder(next(iter(drawn.settings("large").values())))
    files = [folder / row["file"] for row in records.read(folder / DRAWN)]
    rows = -(-len(files) // GALLERY_COLUMNS)
    sheet = Image.new("RGB", (GALLERY_COLUMNS * GALLERY_CELL, rows * GALLERY_CELL), "white")
    for index, file in enumerate(files):
        with Image.open(file) as image:
            small = image.convert("RGB").resize((GALLERY_CELL, GALLERY_CELL), Image.Resampling.LANCZOS)
        sheet.paste(small, (index % GALLERY_COLUMNS * GALLERY_CELL, index // GALLERY_COLUMNS * GALLERY_CELL))
    sheets.save(sheet, to)


def _another(style: Style) -> Style:
    return STYLES[(STYLES.index(style) + 1) % len(STYLES)]


def _true_row(item: Item, judged: Scores, index: int) -> Mapping[str, object]:
    return {"key": item.key, "group": item.group} | {name: f"{values[index]:.6g}" for name, values in judged.items()}


if __name__ == "__main__":
    typer.run(main)
