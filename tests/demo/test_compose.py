import io
import json
import tarfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from reimagen_demo.art import STYLES, Art
from reimagen_demo.compose import SHARD_SAMPLES, ShardTask, Source, compose, plan, write_shard
from reimagen_demo.composer import Composer
from reimagen_demo.entities import by_name
from reimagen_demo.pairs import PairId
from reimagen_demo.pictures import ArtPictures, PairPictures
from reimagen_demo.prompts import Composition, Place, Size
from reimagen_demo.recipes import Recipe, read_recipes, write_recipes
from reimagen_demo.scenes import Time, by_phrase

FOX, VIOLIN = by_name()["fox"], by_name()["violin"]
SNOW, SPACE = by_phrase()["in the snow"], by_phrase()["in space"]
IN_3D, NOTO, TWEMOJI, FLAT = (style.name for style in STYLES)
RECIPES = (
    Recipe(0, "a fox in space", Composition((FOX,), SPACE), (NOTO,), (f"{FOX.code}.1-noto", f"{FOX.code}.2-twemoji")),
    Recipe(
        1,
        "a fox and a violin in the snow at night",
        Composition((FOX, VIOLIN), SNOW, time="night"),
        (NOTO, IN_3D),
        (f"{FOX.code}.1-noto", f"{VIOLIN.code}.0-fluent-emoji"),
    ),
    Recipe(2, "a violin in the snow", Composition((VIOLIN,), SNOW), (FLAT,), ("scene.in-the-snow.1",)),
    Recipe(3, "two foxes in fog in the snow", Composition((FOX,), SNOW, count=2, weather="fog"), (TWEMOJI,), ()),
)


def task(
    art: Art, folder: Path, *, size: int = 64, seed: str = "0", varied: float = 0, aligned: bool = False
) -> ShardTask:
    source = Source(art.folder, packed=False)
    (task,) = plan(folder, RECIPES, source=source, size=size, seed=seed, varied=varied, aligned=aligned)
    return task


def shard(art: Art, folder: Path, *, size: int = 64, seed: str = "0", varied: float = 0, aligned: bool = False) -> Path:
    written = task(art, folder, size=size, seed=seed, varied=varied, aligned=aligned)
    assert write_shard(written) == len(RECIPES)
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


def test_aligned_neighbors_show_each_thing_where_it_stands(art: Art, out_folder: Path) -> None:
    fox_in_space, fox_and_violin, *_, two_foxes = samples(shard(art, out_folder, aligned=True))
    assert fox_and_violin["neighbor0.txt"] == b"a fox"
    assert fox_and_violin["neighbor1.txt"] == b"a violin"
    assert "neighbor1.png" not in two_foxes  # nothing was found for them
    assert fox_in_space["neighbor1.txt"] == b"a fox"
    first, second = (extent(picture(fox_in_space[f"neighbor{rank}.png"])) for rank in range(2))
    assert (first != second).any()  # another style
    # In its place: on the same ground, and in the middle of it.
    assert abs(first[1, 0] - second[1, 0]) <= 2
    assert abs(first[:, 1].mean() - second[:, 1].mean()) <= 2
    shown, neighbor = (np.asarray(picture(fox_in_space[name])) for name in ("png", "neighbor0.png"))
    thing = (neighbor != neighbor[0, 0]).any(axis=-1)
    assert thing.mean() > 0.1
    # All but its outline, which at this size is a third of it and mixed with the ground behind it.
    assert (shown[thing] == neighbor[thing]).all(axis=-1).mean() > 0.5


def extent(shown: Image.Image) -> np.ndarray:
    """The first and the last row and column of what stands on a plain ground."""
    pixels = np.asarray(shown)
    thing = np.argwhere((pixels != pixels[0, 0]).any(axis=-1))
    return np.stack([thing.min(axis=0), thing.max(axis=0)])


@pytest.mark.parametrize(("size", "suffix"), [(64, "png"), (128, "webp")])
def test_a_sample_holds_a_picture_its_prompt_and_its_neighbors(
    art: Art, out_folder: Path, size: int, suffix: str
) -> None:
    written = samples(shard(art, out_folder, size=size))
    for sample, recipe in zip(written, RECIPES, strict=True):
        ranks = range(len(recipe.neighbors))
        pictures = {suffix, *(f"neighbor{rank}.{suffix}" for rank in ranks)}
        assert set(sample) == {*pictures, "txt", "json", *(f"neighbor{rank}.txt" for rank in ranks)}
        for name in pictures:
            assert picture(sample[name]).size == (size, size)
            assert picture(sample[name]).mode == "RGB"
        assert sample["txt"].decode() == recipe.prompt
    captions = [written[1]["neighbor0.txt"], written[1]["neighbor1.txt"], written[2]["neighbor0.txt"]]
    assert captions == [b"a fox", b"a violin", SNOW.caption.encode()]


def test_a_sample_says_what_it_shows(art: Art, out_folder: Path) -> None:
    assert json.loads(samples(shard(art, out_folder))[1]["json"]) == {
        "entities": ["fox", "violin"],
        "styles": [NOTO, IN_3D],
        "scene": "in the snow",
        "count": 1,
        "size": None,
        "place": None,
        "time": "night",
        "weather": None,
        "split": "train",
        "frequency": "frequent",
        "neighbors": [f"{FOX.code}.1-noto", f"{VIOLIN.code}.0-fluent-emoji"],
    }


def test_neighbors_are_the_pictures_of_the_knowledge_base(art: Art, out_folder: Path) -> None:
    with Image.open(PairPictures(art).file(FOX, STYLES[1])) as pair:
        expected = np.asarray(pair.resize((64, 64), Image.Resampling.LANCZOS))
    sample = samples(shard(art, out_folder))[0]
    assert np.array_equal(np.asarray(picture(sample["neighbor0.png"])), expected)


def test_a_varied_neighbor_shows_the_whole_drawing_on_another_ground(art: Art) -> None:
    composer = Composer(ArtPictures(art), 64)
    seen = [np.asarray(composer.varied_neighbor(Random(seed), PairId.parse(f"{FOX.code}.1-noto"))) for seed in range(9)]
    grounds = {tuple(one[0, 0]) for one in seen} | {tuple(one[-1, -1]) for one in seen}
    assert len(grounds) >= 6
    sides = [np.ptp(np.nonzero(np.abs(one - np.median(one, axis=(0, 1))).max(-1) > 30), axis=1).max() for one in seen]
    assert min(sides) < 45 < 50 < max(sides)


def test_the_same_seed_gives_the_same_bytes(art: Art, out_folder: Path, tmp_path: Path) -> None:
    first = shard(art, out_folder, varied=0.5).read_bytes()
    assert shard(art, tmp_path, varied=0.5).read_bytes() == first
    assert shard(art, tmp_path, varied=0.5, seed="1").read_bytes() != first


def test_recipes_survive_being_written(tmp_path: Path) -> None:
    write_recipes(RECIPES, tmp_path / "recipes.gz")
    assert read_recipes(tmp_path / "recipes.gz") == list(RECIPES)


def test_shards_share_no_sample(tmp_path: Path) -> None:
    recipes = [replace(RECIPES[0], number=number) for number in range(2 * SHARD_SAMPLES + 34)]
    tasks = plan(tmp_path, recipes, source=Source(tmp_path, packed=False), size=64, seed="0", varied=0, aligned=False)
    assert [recipe.number for task in tasks for recipe in task.recipes] == list(range(len(recipes)))
    assert len({task.path for task in tasks}) == len(tasks) == 3


def test_a_shard_that_fails_midway_never_looks_finished(art: Art, out_folder: Path, tmp_path: Path) -> None:
    broken = replace(task(art, out_folder), source=Source(tmp_path / "no-art", packed=False))
    with pytest.raises(FileNotFoundError):
        write_shard(broken)
    assert not broken.path.exists()


def where(art: Art, composition: Composition, seed: int) -> np.ndarray:
    """Columns and rows (first, last) of what is on the scene, as shares of the side."""

    def drawn(shown: Composition, styles: tuple[str, ...]) -> np.ndarray:
        return np.asarray(Composer(ArtPictures(art), 64).picture(Random(seed), shown, styles)).astype(float)

    placed, empty = drawn(composition, (NOTO,) * len(composition.entities)), scene_alone(composition, seed)
    changed = np.abs(placed - empty).max(-1) > 60
    rows, columns = np.nonzero(changed)
    return np.array([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1]) / 64


def scene_alone(composition: Composition, seed: int) -> np.ndarray:
    return np.asarray(composition.scene.render(Random(seed), 64)).astype(float)


@pytest.mark.parametrize("place", get_args(Place))
def test_place_says_on_which_side_a_thing_is(art: Art, place: Place) -> None:
    left, right, *_ = np.mean([where(art, Composition((FOX,), SPACE, place=place), seed) for seed in range(4)], axis=0)
    assert (right <= 0.5) == (place == "left")
    assert (left >= 0.5) == (place == "right")


def test_size_says_how_large_a_thing_is_and_nothing_is_cut_off(art: Art) -> None:
    sizes: dict[Size | None, float] = {}
    for size in ("tiny", None, "huge"):
        spans = np.array([where(art, Composition((FOX,), SNOW, size=size), seed) for seed in range(4)])
        assert spans[:, 0].min() > 0
        assert spans[:, 1].max() < 1
        sizes[size] = float((spans[:, 1] - spans[:, 0]).mean())
    assert sizes["tiny"] < 0.4 < sizes[None] < 0.8 < sizes["huge"]


def test_two_entities_stand_side_by_side_the_first_where_it_is_said_to_be(art: Art) -> None:
    """What is in a half does not change with what is in the other one."""
    composer = Composer(ArtPictures(art), 64)

    def half(entities: tuple[str, str], place: Place | None, side: slice) -> bytes:
        shown = Composition(tuple(by_name()[name] for name in entities), SPACE, place=place)
        return np.asarray(composer.picture(Random(3), shown, (NOTO, NOTO)))[:, side].tobytes()

    left, right = slice(0, 32), slice(32, 64)
    assert half(("fox", "violin"), None, left) == half(("fox", "owl"), None, left)
    assert half(("fox", "violin"), None, left) == half(("fox", "violin"), "left", left)
    assert half(("fox", "violin"), None, right) != half(("fox", "owl"), None, right)
    assert half(("fox", "violin"), "right", right) == half(("fox", "owl"), "right", right)


def test_times_and_weather_change_the_whole_picture(art: Art) -> None:
    composer = Composer(ArtPictures(art), 64)
    meadow = Composition((FOX,), by_phrase()["on a green meadow"])
    compositions = [meadow, *(replace(meadow, time=time) for time in get_args(Time)), replace(meadow, weather="fog")]
    seen = [np.asarray(composer.picture(Random(1), shown, (NOTO,))).astype(float) for shown in compositions]
    for number, one in enumerate(seen):
        for other in seen[:number]:
            assert np.abs(one - other).mean() > 12
    day, night, dawn, *_ = (one.mean() for one in seen)
    assert night < dawn < day


def test_what_stands_on_the_ground_has_a_shadow_on_it(art: Art) -> None:
    """Below the feet of a thing the ground is darker than where nothing stands."""
    composer, clock = Composer(ArtPictures(art), 64), by_name()["alarm clock"]
    shown = Composition((clock,), SNOW)
    placed = np.mean([np.asarray(composer.picture(Random(s), shown, (NOTO,))).astype(float) for s in range(12)], axis=0)
    empty = np.mean([scene_alone(shown, s) for s in range(12)], axis=0)
    assert SNOW.ground is not None
    below = round(64 * SNOW.ground) + 4
    darker = (empty - placed).mean(axis=-1)[below]
    assert darker[24:40].min() > 2
    assert np.abs(darker[:4]).max() == 0


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
