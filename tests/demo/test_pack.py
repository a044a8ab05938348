"""A pack of a few entities, and shards drawn from it where nothing is installed that draws vectors or searches."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image
from typer import BadParameter

from reimagen_demo.art import STYLES, Art
from reimagen_demo.entities import by_name
from reimagen_demo.pack import SIDE, Pack, recipes_name, write_pictures
from reimagen_demo.pairs import PairId
from reimagen_demo.pictures import ArtPictures
from reimagen_demo.prompts import Composition
from reimagen_demo.recipes import Recipe, write_recipes
from reimagen_demo.scenes import SCENES, by_phrase

FOX = by_name()["fox"]
MEADOW = by_phrase()["on a green meadow"]
NOTO = STYLES[1].name
SCENES_EACH = 2
RECIPES = [
    Recipe(number, "a fox on a green meadow", Composition((FOX,), MEADOW), (NOTO,), (f"{FOX.code}.1-noto",))
    for number in range(4)
]
UNNEEDED = ("resvg_py", "jnius", "pyserini", "grpc", "jax", "reimagen_common", "reimagen_retriever")


@pytest.fixture(scope="module")
def folder(art: Art, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    write_pictures(folder, art.folder, [FOX], SCENES_EACH, seed=0, processes=1)
    write_recipes(RECIPES, folder / recipes_name("train", plain=False))
    return folder


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    assert one.mode == other.mode
    return float(np.abs(np.asarray(one).astype(float) - np.asarray(other)).mean())


@pytest.mark.parametrize("identifier", [f"{FOX.code}.1-noto", "scene.on-a-green-meadow.2"])
def test_its_pairs_look_like_those_of_the_knowledge_base(art: Art, folder: Path, identifier: str) -> None:
    pair = PairId.parse(identifier)
    assert difference(Pack(folder).pair(pair), ArtPictures(art).pair(pair)) < 2


def test_its_drawings_are_those_of_the_art_without_dark_fringes(art: Art, folder: Path) -> None:
    for style in STYLES:
        ours, theirs = (each.sprite(FOX, style.name, SIDE) for each in (Pack(folder), ArtPictures(art)))
        on_white = [Image.alpha_composite(Image.new("RGBA", one.size, "white"), one) for one in (ours, theirs)]
        assert difference(*on_white) < 2


def test_a_drawing_is_never_enlarged(folder: Path) -> None:
    assert max(Pack(folder).sprite(FOX, NOTO, 2 * SIDE).size) == SIDE


@pytest.mark.parametrize("side", [64, 128])
def test_a_scene_is_another_picture_each_time_or_its_mirror_image(folder: Path, side: int) -> None:
    pack = Pack(folder)
    for scene in SCENES:
        seen = {pack.scene(scene, Random(seed), side).tobytes() for seed in range(30)}
        assert len(seen) == 2 * SCENES_EACH


def test_what_is_drawn_on_a_scene_is_not_there_the_next_time(folder: Path) -> None:
    pack = Pack(folder)
    pack.scene(MEADOW, Random(0), 64).paste((0, 0, 0), (0, 0, 64, 64))
    assert np.asarray(pack.scene(MEADOW, Random(0), 64)).any()


def test_it_says_whose_the_drawings_are(folder: Path) -> None:
    told = (folder / "SOURCES.txt").read_text()
    for style in STYLES:
        assert f"@iconify-json/{style.name}@" in told
        assert style.license in told


def test_shards_are_written_where_nothing_else_is_installed(folder: Path, tmp_path: Path) -> None:
    # Also in the processes that the command starts, these imports fail as if the packages were missing.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({UNNEEDED}))\n")
    out = tmp_path / "shards"
    command = [sys.executable, "-m", "reimagen_demo.compose", "--pack", str(folder), "--count", "3", str(out)]
    paths = os.pathsep.join([str(tmp_path), "deploy/demo"])
    result = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    with tarfile.open(out / "00000.tar") as tar:
        names = [member.name for member in tar]
    suffixes = ("png", "txt", "json", "neighbor0.png", "neighbor0.txt")
    assert names == [f"{number:08d}.{suffix}" for number in range(3) for suffix in suffixes]


def test_a_pack_says_what_it_does_not_hold(folder: Path) -> None:
    with pytest.raises(BadParameter, match=r"no held-out-plain\.jsonl\.gz; it has: train\.jsonl\.gz"):
        Pack(folder).recipes("held-out", plain=True, count=1, neighbors=True)
    with pytest.raises(BadParameter, match="at most the 4"):
        Pack(folder).recipes("train", plain=False, count=5, neighbors=True)
    assert Pack(folder).recipes("train", plain=False, count=1, neighbors=False)[0].neighbors == ()
