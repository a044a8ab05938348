"""`make results`: what the paper claims, measured on the demonstration's weights, written as docs/results.md.

Draws with the shipped cascade and with the one that was trained without neighbors, grounded by the real retriever;
scores with the judge; writes the page. Killed at any moment and run again, it goes on. The prompts are drawn by seeds
that training has none of.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
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
from reimagen_demo import compared_bases, knowledge_base, running
from reimagen_demo.art import STYLES, Art, Style
from reimagen_demo.claims import Distance, Evidence, claims
from reimagen_demo.composer import Composer
from reimagen_demo.judge import SHIPPED as SHIPPED_JUDGE
from reimagen_demo.pictures import ArtPictures, PairPictures
from reimagen_demo.results_sweep import BY_MEANING, GROUPS, IN_DOMAIN, OUT_OF_DOMAIN, SIZE, Prompt, prompts, sweep
from reimagen_demo.running import console
from reimagen_generator.evaluation import records, scoring
from reimagen_generator.evaluation import sweep as sweeps
from reimagen_generator.evaluation.benches import items as item_files
from reimagen_generator.evaluation.benches.item import Item
from reimagen_generator.evaluation.copies import copy_distance
from reimagen_generator.evaluation.frechet import frechet_distance, moments
from reimagen_generator.evaluation.grounding import Grounding
from reimagen_generator.evaluation.judges.classifier import TrainedClassifier
from reimagen_generator.evaluation.judges.entity import EntityJudge
from reimagen_generator.evaluation.judges.judge import Picture, Scores
from reimagen_generator.evaluation.report import page, scores, sheets
from reimagen_generator.evaluation.runs import DRAWN
from reimagen_generator.evaluation.sweep import Sweep
from reimagen_generator.jax_setup import keep_compiled
from reimagen_generator.retrieval import Retriever
from reimagen_generator.settings import SHIPPED_WEIGHTS
from reimagen_generator.weights import checkpoint

TRAINED_ALONE: Final = SHIPPED_WEIGHTS.with_name("demo-without-neighbors")
BATCH: Final = 4
RESAMPLES: Final = 50
GALLERY_COLUMNS, GALLERY_CELL = 8, 192
CALIBRATED: Final = 100
"""True pictures that the measure of near copies is tried on."""


class CropJudge:
    """Judges the middle of a picture, where its detail is: what the other judge says, with `crop` before its names."""

    def __init__(self, judge: EntityJudge) -> None:
        """Take the judge."""
        self._judge = judge

    def scores(self, pictures: Sequence[Picture], items: Sequence[Item]) -> Scores:
        """Scores of the middle three quarters of each side."""
        edges = [picture.shape[0] // 8 for picture in pictures]
        middles = [
            picture[e : len(picture) - e, e : len(picture) - e] for picture, e in zip(pictures, edges, strict=True)
        ]
        return {f"crop {name}": values for name, values in self._judge.scores(middles, items).items()}


def main(
    weights: Annotated[Path, typer.Option(help="Folder of the cascade.")] = SHIPPED_WEIGHTS,
    alone: Annotated[Path, typer.Option(help="Folder of the one that was trained without neighbors.")] = TRAINED_ALONE,
    judge: Annotated[Path, typer.Option(help="Folder of the judge.")] = SHIPPED_JUDGE,
    to: Annotated[Path, typer.Option(help="The page.")] = Path("docs/results.md"),
    work: Annotated[Path, typer.Option(help="Folder of what the demonstration builds.")] = Path("build/demo"),
    prompts_at_most: Annotated[int | None, typer.Option(min=1, help="Of each row, for a trial.")] = None,
) -> None:
    """Measure the paper's claims on the demonstration's weights, and write docs/results.md."""
    with running.told():
        try:
            _run(weights, alone, judge, to, work, prompts_at_most)
        except (ValueError, ReimagenError) as error:
            raise RuntimeError(str(error)) from error


def _run(weights: Path, alone: Path, judge_folder: Path, to: Path, work: Path, most: int | None) -> None:
    began, out = time.monotonic(), work / "results"
    there = alone if (alone / checkpoint.CONFIG_FILE).exists() else None
    if there is None:
        console.print(f"{alone} is not there yet: the page is written without what was trained without neighbors")
    asked = prompts()
    items = [prompt.item for prompt in asked]
    drawn = sweep(weights, there, checkpoint.load_config(weights), most)
    out.mkdir(parents=True, exist_ok=True)
    item_files.write(items, out / item_files.ITEMS)
    classifier = TrainedClassifier.load(judge_folder)  # before the hours of drawing: it may not be there
    keep_compiled(work / "compiled")
    with retrievers(work) as connections:
        sweeps.draw(drawn, items, out, grounding=Grounding(items, connections), batch_size=BATCH)
    console.print(f"drawn {time.monotonic() - began:.0f} s after the start")
    judge = EntityJudge(classifier)
    scoring.score_copies(out, drawn, items)
    scoring.score(out, drawn, items, {"judge": judge})
    if "large" in drawn.axes:
        folders = [drawn.folder(setting) for setting in drawn.settings("large").values()]
        scoring.score(out, drawn, items, {"crop": CropJudge(judge)}, folders)
    evidence = measure_true(asked, drawn, classifier, work)
    measured = distances(evidence, classifier, out)
    page.write(drawn, items, out, to, preface=claims(evidence, measured), notes={"base": told_distances(measured)})
    if "large" in drawn.axes:
        gallery(drawn, out, to.with_suffix("") / "gallery.webp")
    console.print(f"{to} is written, {time.monotonic() - began:.0f} s after the start")


@contextmanager
def retrievers(folder: Path) -> Iterator[Mapping[str, Retriever]]:
    """Serves the demonstration's knowledge base and those that it is compared with, each by a real retriever.

    Raises:
        ChildError: one does not start.
    """
    bases = {
        IN_DOMAIN: knowledge_base.build(folder),
        BY_MEANING: compared_bases.with_vectors(folder),
        OUT_OF_DOMAIN: compared_bases.sketches(folder),
    }
    with ExitStack() as started:
        redis = started.enter_context(LocalRedis())
        connections = {}
        for name, base in bases.items():
            child = started.enter_context(running.Retriever(base, redis.url, folder / "logs" / name))
            child.wait()
            connections[name] = Retriever(child.address)
            started.callback(connections[name].close)
        yield connections


def measure_true(asked: Sequence[Prompt], drawn: Sweep, classifier: TrainedClassifier, work: Path) -> Evidence:
    """True pictures of the prompts, what the judge says of them, and how near a copy they are of a pair's drawing."""
    art, out = Art(work), work / "results"
    art.install()
    pictures = ArtPictures(art)
    composer = Composer(pictures, SIZE)
    real, copied = [], {"the same drawing": list[float](), "another style": list[float]()}
    for prompt in tqdm(asked, desc="true pictures", unit="picture"):
        rng = Random(f"results/true/{prompt.item.key}")
        styles = [rng.choice(STYLES) for _ in prompt.composition.entities]
        real.append(np.asarray(composer.picture(rng, prompt.composition, [style.name for style in styles])))
        if len(copied["another style"]) < CALIBRATED and len(styles) == 1:
            for name, style in (("the same drawing", styles[0]), ("another style", _another(styles[0]))):
                file = PairPictures(art).file(prompt.composition.entities[0], style)
                copied[name].append(copy_distance(real[-1], [file]))
    items = [prompt.item for prompt in asked]
    judged = EntityJudge(classifier).scores(real, items)
    records.write(out / "true.csv", (_true_row(item, judged, place) for place, item in enumerate(items)))
    return Evidence(drawn, items, scores.read(out), np.stack(real), dict(judged), copied)


def distances(evidence: Evidence, classifier: TrainedClassifier, out: Path) -> list[Distance]:
    """Fréchet distances to the true pictures in the judge's features, by knowledge base; also OUT/distances.csv.

    The interval is that of a normal distribution whose deviation is the bootstrap's, over the drawn pictures.
    """
    there = moments([classifier.features(evidence.true_of(GROUPS))])
    keys = {item.key for item in evidence.sweep.axes["base"].items(evidence.items)}
    measured = []
    for label, setting in evidence.sweep.settings("base").items():
        folder = out / evidence.sweep.folder(setting)
        drawn = [row for row in records.read(folder / DRAWN) if row["key"] in keys]
        features = classifier.features(np.stack(scoring.read_pictures(folder, drawn)))
        rng = np.random.default_rng(0)
        resampled = [
            frechet_distance(moments([features[rng.integers(0, len(features), len(features))]]), there)
            for _ in range(RESAMPLES)
        ]
        value, half = frechet_distance(moments([features]), there), 1.96 * float(np.std(resampled, ddof=1))
        measured.append(Distance(label, len(features), value, value - half, value + half))
    records.write(out / "distances-judge.csv", (asdict(row) for row in measured))
    return measured


def told_distances(measured: Sequence[Distance]) -> str:
    """The distances as a table."""
    lines = [f"| {row.knowledge_base} | {row.pictures} | {row.told} |" for row in measured]
    head = "Fréchet distance to true pictures of all prompts, in the judge's features (less is better):"
    return "\n".join([head, "", "| | n | distance |", "|---|---|---|", *lines])


def gallery(drawn: Sweep, out: Path, to: Path) -> None:
    """All pictures of the largest size on one sheet, in the order of the prompts: none is picked."""
    folder = out / drawn.folder(next(iter(drawn.settings("large").values())))
    files = [folder / row["file"] for row in records.read(folder / DRAWN)]
    rows = -(-len(files) // GALLERY_COLUMNS)
    sheet = Image.new("RGB", (GALLERY_COLUMNS * GALLERY_CELL, rows * GALLERY_CELL), "white")
    for place, file in enumerate(files):
        with Image.open(file) as picture:
            small = picture.convert("RGB").resize((GALLERY_CELL, GALLERY_CELL), Image.Resampling.LANCZOS)
        sheet.paste(small, (place % GALLERY_COLUMNS * GALLERY_CELL, place // GALLERY_COLUMNS * GALLERY_CELL))
    sheets.save(sheet, to)


def _another(style: Style) -> Style:
    return STYLES[(STYLES.index(style) + 1) % len(STYLES)]


def _true_row(item: Item, judged: Scores, place: int) -> Mapping[str, object]:
    return {"key": item.key, "group": item.group} | {name: f"{values[place]:.6g}" for name, values in judged.items()}


if __name__ == "__main__":
    typer.run(main)
