import io
import json
import math
import tarfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageFilter
from typer import Typer
from typer.testing import CliRunner

from reimagen_demo.art.colors import Color
from reimagen_demo.art.entities import Entity, by_name
from reimagen_demo.art.icons import STYLES, Art
from reimagen_demo.art.images import ArtImages, PairImages
from reimagen_demo.data.compose import SHARD_SAMPLES, Kind, ShardTask, Source, Writer, compose, plan, write_shard
from reimagen_demo.data.composer import Composer
from reimagen_demo.data.compositions import Composition, Thing
from reimagen_demo.data.recipes import Recipe
from reimagen_demo.data.references import Reference
from reimagen_demo.scenes.registry import Time, by_phrase

WHITE = by_phrase()["on a plain white background"]
FOX, VIOLIN, CLOCK = (by_name()[name] for name in ("fox", "violin", "alarm clock"))
SNOW, SPACE, MEADOW = (by_phrase()[phrase] for phrase in ("in the snow", "in space", "on a green meadow"))
IN_3D, NOTO, TWEMOJI, FLAT = (style.name for style in STYLES)
SAMPLES = 6


def kind(size: int = 64, seed: int = 0) -> Kind:
    return Kind(size, seed, "held-out", plain=False, neighbors=True)


def task(art: Art, folder: Path, kind: Kind) -> ShardTask:
    (task,) = plan(folder, SAMPLES, Source(art.folder, packed=False), kind)
    return task


def shard(art: Art, folder: Path, kind: Kind) -> Path:
    written = task(art, folder, kind)
    assert write_shard(written) == SAMPLES
    return written.path


def samples(path: Path) -> list[dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            content = tar.extractfile(member)
            assert content is not None
            found[key][suffix] = content.read()
    return list(found.values())


def picture(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as opened:
        opened.load()
        return opened


def drawn(art: Art, recipe: Recipe, size: int, seed: int = 0) -> dict[str, bytes]:
    """Return the members of a sample."""
    return dict(Writer(Composer(ArtImages(art), size)).sample(Random(seed), recipe))


@pytest.mark.parametrize(("size", "suffix", "side"), [(64, "png", 128), (160, "webp", 160)])
def test_a_sample_has_an_image_a_prompt_and_neighbors(
    art: Art, out_folder: Path, size: int, suffix: str, side: int
) -> None:
    written = samples(shard(art, out_folder, kind(size)))
    assert len(written) == SAMPLES
    for number, sample in enumerate(written):
        recipe = kind(size).recipe(number)
        ranks = range(len(recipe.references))
        members = ("webp", "txt", "matte.png", "json")
        assert set(sample) == {suffix, "txt", "json", *(f"neighbor{r}.{member}" for r in ranks for member in members)}
        assert picture(sample[suffix]).size == (size, size)
        assert sample["txt"].decode() == recipe.prompt
        for rank, reference in enumerate(recipe.references):
            assert picture(sample[f"neighbor{rank}.webp"]).size == (side, side)
            assert picture(sample[f"neighbor{rank}.webp"]).mode == "RGB"
            assert picture(sample[f"neighbor{rank}.matte.png"]).size == (side, side)
            assert picture(sample[f"neighbor{rank}.matte.png"]).mode == "L"
            assert sample[f"neighbor{rank}.txt"].decode() == reference.entity.phrase


def recipe_of(composition: Composition, *references: Reference, style: str = NOTO) -> Recipe:
    return Recipe(0, "a prompt", composition, (style,) * len(composition.things), references)


ZORP = Entity("made-up.polygon.checkered.11", "a zorp", "made-up", "train")
CASES = [
    (
        Composition((Thing(ZORP, turned="left", mirrored=True),), MEADOW),
        [Reference(ZORP, "made-up", 0, True, True)],
    ),
    (Composition((Thing(FOX, mirrored=True),), MEADOW), [Reference(FOX, NOTO, 0, False, True)]),
    (Composition((Thing(FOX, turned="left"),), SPACE), [Reference(FOX, NOTO, 0, False, False)]),
    (
        Composition((Thing(VIOLIN, turned="right", mirrored=True, place="top left"),), SNOW),
        [Reference(VIOLIN, NOTO, 0, True, True)],
    ),
    (Composition((Thing(FOX, turned="upside down", size="small"),), SNOW), [Reference(FOX, NOTO, 0, True, True)]),
    (
        Composition((Thing(FOX, 3), Thing(VIOLIN)), MEADOW),
        [Reference(VIOLIN, NOTO, 1, True, True), Reference(FOX, NOTO, 0, False, True)],
    ),
    (
        Composition((Thing(VIOLIN), Thing(CLOCK)), MEADOW, relation="in front of"),
        [Reference(VIOLIN, NOTO, 0, False, True)],
    ),
]


@pytest.mark.parametrize(("composition", "references"), CASES)
def test_a_reference_warped_by_its_placement_equals_the_object(
    art: Art, composition: Composition, references: list[Reference]
) -> None:
    """The reference is warped by its matte, box and placement; a wrong placement would give a large difference."""
    size = 192
    for seed in range(3):
        sample = drawn(art, recipe_of(composition, *references), size, seed)
        shown = np.asarray(picture(sample["webp"])).astype(float)
        for rank, reference in enumerate(references):
            reported = json.loads(sample[f"neighbor{rank}.json"])
            assert reference.thing is not None
            assert len(reported["placements"]) == composition.things[reference.thing].count
            image = picture(sample[f"neighbor{rank}.webp"]), picture(sample[f"neighbor{rank}.matte.png"])
            for placement in reported["placements"]:
                right = error(shown, image, reported["box"], placement)
                assert right < 9
                x, y, length, mirrored, angle = placement
                for wrong in (
                    [x + 0.03, y, length, mirrored, angle],
                    [x, y, 1.12 * length, mirrored, angle],
                    [x, y, length, 1 - mirrored, angle],
                    [x, y, length, mirrored, angle + math.pi],
                ):
                    assert error(shown, image, reported["box"], wrong) > 1.5 * right


def error(
    shown: np.ndarray, reference: tuple[Image.Image, Image.Image], box: list[float], placement: list[float]
) -> float:
    """Return the mean difference, of 255, inside the warped reference."""
    side, (x, y, length, mirrored, angle) = len(shown), placement
    rows, columns = (np.mgrid[0:side, 0:side] + 0.5) / side
    across, down = columns - x, rows - y
    u = (math.cos(angle) * across - math.sin(angle) * down) * box[2] / length
    v = (math.sin(angle) * across + math.cos(angle) * down) * box[2] / length
    u = box[0] + (-u if mirrored else u)
    v = box[1] + v
    # Downsampled as in the image, and without the blended background.
    coarser = max(1.0, box[2] * reference[0].width / (length * side))
    image = np.asarray(reference[0].filter(ImageFilter.GaussianBlur(0.4 * coarser))).astype(float)
    matte = np.asarray(reference[1].filter(ImageFilter.MinFilter(2 * math.ceil(coarser) + 1)))
    inside = (u > 0) & (u < 1) & (v > 0) & (v < 1)
    row, column = (np.clip(each * len(image), 0, len(image) - 1).astype(int) for each in (v, u))
    thing = inside & (matte[row, column] > 250)
    assert thing.sum() > 100
    return float(np.abs(image[row, column] - shown)[thing].mean())


def test_references_in_any_style_share_placements_and_distractors_have_none(art: Art) -> None:
    composition = Composition((Thing(FOX),), MEADOW)
    same, other, unrelated = (
        Reference(FOX, NOTO, 0, False, False),
        Reference(FOX, TWEMOJI, 0, False, True),
        Reference(CLOCK, FLAT, None, False, True),
    )
    sample = drawn(art, recipe_of(composition, same, other, unrelated), 64)
    reported = [json.loads(sample[f"neighbor{rank}.json"]) for rank in range(3)]
    assert reported[0]["placements"] == reported[1]["placements"]
    assert reported[2]["placements"] == []
    for rank, one in enumerate(reported):
        matte = np.asarray(picture(sample[f"neighbor{rank}.matte.png"])) > 8
        rows, columns = np.nonzero(matte)
        x, y = (columns.min() + columns.max() + 1) / 256, (rows.min() + rows.max() + 1) / 256
        length = max(np.ptp(rows), np.ptp(columns)) + 1
        assert [128 * x, 128 * y] == pytest.approx([128 * one["box"][0], 128 * one["box"][1]], abs=1.01)
        assert length == pytest.approx(128 * one["box"][2], abs=2.01)


def test_a_sample_describes_its_content(art: Art) -> None:
    composition = Composition(
        (Thing(FOX, 2, "small", turned="upside down"), Thing(VIOLIN, mirrored=True)), SNOW, time="night"
    )
    recipe = Recipe(7, "…", composition, (NOTO, FLAT), (Reference(VIOLIN, FLAT, 1, True, True),))
    facts = json.loads(drawn(art, recipe, 64)["json"])
    foxes, violin = facts.pop("things")
    assert facts == {
        "relation": None,
        "scene": "in the snow",
        "time": "night",
        "weather": None,
        "split": "train",
        "frequency": "frequent",
    }
    assert [len(foxes.pop("placements")), len(violin.pop("placements"))] == [2, 1]
    unstated = {"count": 1, "size": None, "place": None, "mirrored": False, "turned": None}
    unstated |= {"color": None, "made_up": False}
    assert foxes == unstated | {
        "entity": "fox",
        "style": NOTO,
        "count": 2,
        "size": "small",
        "turned": "upside down",
        "references_mirrored": False,
    }
    assert violin == unstated | {"entity": "violin", "style": FLAT, "mirrored": True, "references_mirrored": True}


@pytest.mark.parametrize("color", get_args(Color))
def test_a_stated_color_changes_the_object_and_not_its_references(art: Art, color: Color) -> None:
    plain, colored = (
        drawn(
            art,
            recipe_of(
                Composition((Thing(FOX, color=one, size="large"),), WHITE), Reference(FOX, NOTO, 0, False, False)
            ),
            64,
        )
        for one in (None, color)
    )
    assert colored["neighbor0.webp"] == plain["neighbor0.webp"]
    assert colored["neighbor0.json"] == plain["neighbor0.json"]
    before, after = (np.asarray(picture(sample["png"])).astype(float) for sample in (plain, colored))
    ((x, y, size, *_),) = json.loads(colored["json"])["things"][0]["placements"]
    rows, columns = (np.mgrid[0:64, 0:64] + 0.5) / 64
    thing = np.hypot(columns - x, rows - y) < 0.3 * size
    red, green, blue = after[thing].mean(axis=0)
    seen = {
        "red": red > 1.5 * max(green, blue),
        "orange": red > 1.15 * green > 1.5 * blue,
        "yellow": min(red, green) > 1.5 * blue,
        "green": green > 1.3 * max(red, blue),
        "turquoise": min(green, blue) > 1.5 * red,
        "blue": blue > 1.3 * max(red, green),
        "purple": min(red, blue) > 1.3 * green,
        "pink": red > 1.2 * green and blue > 1.1 * green,
        "brown": 200 > red > 1.2 * green > 1.3 * blue,
        "white": min(red, green, blue) > 190,
        "black": max(red, green, blue) < 80,
        "gray": 80 < red < 190 and abs(red - blue) < 12,
    }
    assert seen[color]
    assert np.abs(before - after)[thing].mean() > 20
    outside = np.hypot(columns - x, rows - y) > 0.75 * size
    assert np.abs(before - after)[outside].max() == 0


def test_unvaried_references_look_like_those_of_the_base(art: Art) -> None:
    with Image.open(PairImages(art).file(FOX, STYLES[1])) as pair:
        expected = np.asarray(pair.resize((128, 128), Image.Resampling.LANCZOS)).astype(float)
    sample = drawn(art, recipe_of(Composition.plain(FOX, SNOW), Reference(FOX, NOTO, 0, False, False)), 64)
    assert np.abs(np.asarray(picture(sample["neighbor0.webp"])) - expected).mean() < 3


def test_varied_references_have_all_backgrounds_and_are_off_center(art: Art) -> None:
    writer = Writer(Composer(ArtImages(art), 64))
    recipe = recipe_of(Composition.plain(FOX, SNOW), *[Reference(FOX, NOTO, 0, False, True)] * 100)
    sample = dict(writer.sample(Random(0), recipe))
    lightness, boxes = [], []
    for rank in range(100):
        ground = np.asarray(picture(sample[f"neighbor{rank}.matte.png"])) == 0
        lightness.append(np.asarray(picture(sample[f"neighbor{rank}.webp"]))[ground].mean())
        boxes.append(json.loads(sample[f"neighbor{rank}.json"])["box"])
    assert np.histogram(lightness, bins=[0, 80, 176, 256])[0].min() > 15
    x, y, length = np.array(boxes).T
    assert length.min() < 0.5 < 0.85 < length.max()
    assert np.ptp(x) > 0.3 < np.ptp(y)


def test_the_same_seed_gives_the_same_bytes(art: Art, out_folder: Path, tmp_path: Path) -> None:
    first = shard(art, out_folder, kind()).read_bytes()
    assert shard(art, tmp_path, kind()).read_bytes() == first
    assert shard(art, tmp_path, kind(seed=1)).read_bytes() != first


def test_shards_share_no_sample(tmp_path: Path) -> None:
    count = 2 * SHARD_SAMPLES + 34
    tasks = plan(tmp_path, count, Source(tmp_path, packed=False), kind())
    assert [number for task in tasks for number in task.numbers] == list(range(count))
    assert len({task.path for task in tasks}) == len(tasks) == 3


def test_a_failed_shard_never_looks_complete(art: Art, out_folder: Path, tmp_path: Path) -> None:
    broken = replace(task(art, out_folder, kind()), source=Source(tmp_path / "no-art", packed=False))
    with pytest.raises(FileNotFoundError):
        write_shard(broken)
    assert not broken.path.exists()


def test_time_of_day_and_weather_change_the_whole_image(art: Art) -> None:
    composer = Composer(ArtImages(art), 64)
    meadow = Composition.plain(FOX, MEADOW)
    compositions = [meadow, *(replace(meadow, time=time) for time in get_args(Time)), replace(meadow, weather="fog")]
    seen = [np.asarray(composer.image(Random(1), shown, (NOTO,))).astype(float) for shown in compositions]
    for number, one in enumerate(seen):
        for other in seen[:number]:
            assert np.abs(one - other).mean() > 12
    day, night, dawn, *_ = (one.mean() for one in seen)
    assert night < dawn < day


def test_objects_on_the_ground_have_a_shadow(art: Art) -> None:
    """The image is darker right below an object than without it."""
    writer = Writer(Composer(ArtImages(art), 64))
    shown = Composition((Thing(CLOCK, size="small"),), SNOW)
    darker = []
    for seed in range(12):
        sample = dict(writer.sample(Random(seed), recipe_of(shown)))
        ((x, y, size, *_),) = json.loads(sample["json"])["things"][0]["placements"]
        if y > 0.6:  # it stands
            row, column = round(64 * (y + size / 2)) + 1, round(64 * x)
            pixels = np.asarray(picture(sample["png"])).astype(float).mean(axis=-1)
            darker.append(np.median(pixels[row]) - pixels[row, column - 2 : column + 3].mean())
    assert len(darker) > 8
    assert np.mean(darker) > 5


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--size", "8"], "--size"),
        (["--count", "0"], "--count"),
        (["--split", "both"], "--split"),
        (["--pack", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, arguments: list[str], field: str) -> None:
    app = Typer()
    app.command()(compose)
    result = CliRunner().invoke(app, [str(tmp_path / "never"), *arguments])
    assert result.exit_code == 2
    assert field in result.output
    assert not (tmp_path / "never").exists()
