"""A page of results from made-up images and scores."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import frechet, records, scoring, sets
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.features.network import Features, Images
from reimagen_evaluation.judges.judge import Pixels, Scores
from reimagen_evaluation.rating.ratings import RATINGS
from reimagen_evaluation.report import failures, page, tables
from reimagen_evaluation.report.scores import read
from reimagen_evaluation.setting import Setting
from reimagen_evaluation.sweep import Axis, Sweep

ITEMS = [Item(f"i{n}", f"thing {n} in snow", (f"thing {n}",), "snow", "rare" if n % 2 else "common") for n in range(8)]
SWEEP = Sweep(
    title="A page",
    samples=2,
    base=Setting(weights=Path("w"), size=16, neighbors="main"),
    axes={
        "retrieval": Axis(
            title="Retrieval",
            by_group=True,
            values={"with": {}, "without": {"neighbors": "none"}},
            against="without",
            paper={"with": "over 80 %"},
        ),
        "eta": Axis(
            title="η",
            paper_says="a trade-off.",
            values={"0.25": {"stages": {"16": {"interleave_ratio": 0.25}}}, "0.5": {}},
            count=2,
        ),
    },
)


class Brightness:
    """A judge that reads its scores from an image's first two pixels."""

    def scores(self, images: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        assert len(images) == len(items)
        entity, scene = (np.array([float(image[0, place, 0] > 127) for image in images]) for place in (0, 1))
        return {"faithful": entity * scene, "entity": entity, "scene": scene}


def draw(out: Path, setting: str, key: str, sample: int, entity: bool, scene: bool, tint: int = 0) -> None:
    pixels = np.full((16, 16, 3), tint, np.uint8)
    pixels[0, 0], pixels[0, 1] = 255 * entity, 255 * scene
    file = out / setting / "images" / f"{key}.{sample}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    row = {"key": key, "sample": sample, "seed": 1, "file": file.relative_to(out / setting)}
    grounds = "" if setting.endswith("without") else "ref"
    records.append(out / setting / "drawn.csv", [row | {"neighbors": grounds, "drift": "0.5", "seconds": "1"}])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Write scores: with retrieval, 6 of 8 items are faithful by their best image; without, 1."""
    (tmp_path / "references").mkdir()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "references" / "ref", "PNG")
    for n, item in enumerate(ITEMS):
        draw(tmp_path, "base", item.key, 0, entity=n in (0, 1, 2, 6), scene=n != 6)
        draw(tmp_path, "base", item.key, 1, entity=n < 6, scene=True, tint=200 if n == 7 else 0)
        for sample in (0, 1):
            draw(tmp_path, "retrieval-without", item.key, sample, entity=n == 0, scene=True)
    for n in range(4):
        draw(tmp_path, "eta-0.25", ITEMS[n].key, 0, entity=False, scene=False)
    return tmp_path


def scored(out: Path) -> None:
    scoring.score(out, SWEEP, ITEMS, {"fake": Brightness()})


def test_the_best_image_of_an_item_counts_and_differences_are_paired(out: Path) -> None:
    scored(out)
    lines = tables.table(SWEEP, "retrieval", ITEMS, read(out)).splitlines()
    assert lines[0] == "|  | n | faithful | entity | scene | faithful: less without | the paper |"
    # Of the common items 0, 2, 4 and 6, three are faithful with retrieval, and only 0 without.
    assert lines[2].startswith("| with, common | 4 | 75.0 % [30.1, 95.4] |")
    assert "| +50.0 points [" in lines[2]
    assert lines[2].endswith("| over 80 % |")
    assert lines[3].startswith("| without, common | 4 | 25.0 %")
    assert lines[5].startswith("| without, rare | 4 | 0.0 % [0.0, 49.0] |")


def test_the_page_has_tables_plots_sheets_and_numbers(out: Path) -> None:
    scored(out)
    folder = out / "docs"
    folder.mkdir()
    page.write(SWEEP, ITEMS, out, folder / "results.md", preface="First.", notes={"eta": "A note."})
    text = (folder / "results.md").read_text()
    assert text.startswith("# A page\n\nFirst.\n")
    assert "A note." in text
    for name in ("retrieval.svg", "retrieval.webp", "eta.svg", "eta.webp", "failures.webp", "scores.csv"):
        assert (folder / "results" / name).stat().st_size > 0
        assert f"(results/{name})" in text
    with (folder / "results" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 * 2 * 2 + 4
    assert {row["group"] for row in rows} == {"common", "rare"}
    # Written again, the page and its plots are the same.
    plot = (folder / "results" / "eta.svg").read_bytes()
    page.write(SWEEP, ITEMS, out, folder / "results.md", preface="First.", notes={"eta": "A note."})
    assert (folder / "results.md").read_text() == text
    assert (folder / "results" / "eta.svg").read_bytes() == plot
    # A page can also be beside the sweep's folder, under its name.
    page.write(SWEEP, ITEMS, out, out.with_suffix(".md"))
    assert f"({out.name}/scores.csv)" in out.with_suffix(".md").read_text()


def test_a_page_of_few_axes_does_without_the_base_setting(out: Path) -> None:
    scored(out)
    eta = SWEEP.axes["eta"].model_copy(update={"values": {"0.25": SWEEP.axes["eta"].values["0.25"]}})
    page.write(SWEEP.model_copy(update={"axes": {"eta": eta}}), ITEMS, out, out / "eta.md")
    text = (out / "eta.md").read_text()
    assert "| 0.25 | " in text
    assert "## Retrieval" not in text


def test_missing_runs_are_reported_as_missing(out: Path) -> None:
    for row in ("eta-0.25", "retrieval-without"):
        (out / row / "drawn.csv").unlink()
    scored(out)
    lines = tables.table(SWEEP, "retrieval", ITEMS, read(out)).splitlines()
    assert lines[3] == f"| without, common | 0 |{f' {tables.NOT_THERE} |' * 3}  |  |"
    assert tables.NOT_THERE in lines[2]
    (out / "scores.csv").unlink()
    with pytest.raises(InvalidArgument, match="is scored yet"):
        read(out)


def test_failures_are_sorted_by_the_same_seed_without_neighbors(out: Path) -> None:
    scored(out)
    found = list(failures.failures(out, "base", "retrieval-without", ITEMS, read(out)))
    kinds = {failure.item.key: failure.kind for failure in found}
    # Item 6 has its entity but not its scene; one image of item 7 is as without references.
    assert kinds == {"i6": failures.SCENE_LOST, "i7": failures.PRIOR}
    assert len(failures.strips(found, 4)) == 2


@pytest.mark.parametrize(
    ("judged", "kind"),
    [
        ({"one_of_two": "1", "blended": "0"}, failures.ONE_MISSING),
        ({"one_of_two": "1", "blended": "1"}, failures.BLENDED),
        ({"one_of_two": "0", "blended": "0"}, failures.PRIOR),
    ],
)
def test_blending_two_entities_and_missing_one_are_different_failures(
    out: Path, judged: dict[str, str], kind: str
) -> None:
    scored(out)
    scores = read(out)
    row = {**scores.by_setting["base"]["i7"], **judged}
    known = replace(scores, by_setting={**scores.by_setting, "base": {"i7": row}})
    (found,) = failures.failures(out, "base", "retrieval-without", ITEMS, known)
    assert found.kind == kind


def test_a_persons_rating_of_a_failure_has_precedence(out: Path) -> None:
    said = {"rater": "a", "setting": "base", "key": "i7", "sample": 0, "entity": 0, "text": 1, "photorealism": 1}
    records.append(out / RATINGS, [said | {"failure": failures.BLENDED, "at": ""}])
    scored(out)
    found = {f.item.key: f.kind for f in failures.failures(out, "base", "retrieval-without", ITEMS, read(out))}
    assert found["i7"] == failures.BLENDED
    rated = [row for row in records.read(out / "scores.csv") if row["rated faithful"]]
    assert [(row["key"], row["rated faithful"], row["rated photorealism"]) for row in rated] == [("i7", "0", "1")]


def test_scoring_resumes_where_it_was_stopped(out: Path) -> None:
    scored(out)
    table = out / "base" / "scores-fake.csv"
    whole = table.read_text()
    table.write_text("".join(whole.splitlines(keepends=True)[:5]) + "i5,0,torn")
    scored(out)
    assert table.read_text() == whole


class Colors:
    """A feature network of three features."""

    name, side, channels = "colors", 16, 3

    def features(self, images: Images) -> Features:
        means: Features = images.mean(axis=(1, 2)).astype(np.float32)
        return means


def test_the_best_frechet_distance_of_an_axis_is_bold(out: Path) -> None:
    scored(out)
    real = out / "real"
    real.mkdir()
    for n in range(8):
        pixels = np.random.default_rng(n).integers(0, 40, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(real / f"{n}.png")
    (out / "retrieval-without" / "drawn.csv").unlink()
    for _ in range(2):  # the second time changes nothing
        sets.measure(out, SWEEP, real, Colors(), square=None, subset=4)
    found = {row["setting"]: (row["images"], float(row["frechet"])) for row in records.read(out / sets.DISTANCES)}
    assert {name: images for name, (images, _) in found.items()} == {"base": "16", "eta-0.25": "4"}
    drawn = np.stack([np.asarray(Image.open(path)) for path in (out / "base" / "images").iterdir()])
    true = np.stack([np.asarray(Image.open(path)) for path in real.iterdir()])
    moments = [frechet.moments([Colors().features(images)]) for images in (true, drawn)]
    assert found["base"][1] == pytest.approx(frechet.frechet_distance(*moments), rel=1e-4)
    lines = tables.table(SWEEP, "eta", ITEMS, read(out)).splitlines()
    best = min(found, key=lambda name: found[name][1])
    assert f"**{found[best][1]:.3f}**" in lines[2 if best == "eta-0.25" else 3]
    assert sum("**" in line for line in lines) == 1
    assert "Fréchet" not in tables.table(SWEEP, "retrieval", ITEMS, read(out))
