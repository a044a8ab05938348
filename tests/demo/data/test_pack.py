"""A pack of a few entities, and shards drawn from it without the packages for vector graphics and search."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from reimagen_demo.art.entities import by_name
from reimagen_demo.art.icons import STYLES, Art
from reimagen_demo.art.images import ArtImages
from reimagen_demo.art.pairs import PairId
from reimagen_demo.data.compose import Kind
from reimagen_demo.data.pack import SIDE, Pack, write_images
from reimagen_demo.scenes.registry import SCENES, by_phrase

FOX = by_name()["fox"]
MEADOW = by_phrase()["on a green meadow"]
NOTO = STYLES[1].name
SCENES_EACH = 2
COUNT = 3
UNNEEDED = ("resvg_py", "jnius", "pyserini", "grpc", "jax", "reimagen_common", "reimagen_retriever")


@pytest.fixture(scope="module")
def folder(art: Art, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    recipes = [Kind(64, 0, "held-out", plain=False, neighbors=True).recipe(number) for number in range(COUNT)]
    shown = {FOX} | {entity for recipe in recipes for entity in recipe.composition.entities}
    shown |= {reference.entity for recipe in recipes for reference in recipe.references}
    write_images(folder, art.folder, list(shown), SCENES_EACH, seed=0, processes=1)
    return folder


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    assert one.mode == other.mode
    return float(np.abs(np.asarray(one).astype(float) - np.asarray(other)).mean())


@pytest.mark.parametrize("identifier", [f"{FOX.code}.1-noto", "scene.on-a-green-meadow.2"])
def test_pairs_of_a_pack_look_like_those_of_the_base(art: Art, folder: Path, identifier: str) -> None:
    pair = PairId.parse(identifier)
    assert difference(Pack(folder).pair(pair), ArtImages(art).pair(pair)) < 2


def test_drawings_of_a_pack_equal_the_art_without_dark_fringes(art: Art, folder: Path) -> None:
    for style in STYLES:
        ours, theirs = (each.sprite(FOX, style.name, SIDE) for each in (Pack(folder), ArtImages(art)))
        on_white = [Image.alpha_composite(Image.new("RGBA", one.size, "white"), one) for one in (ours, theirs)]
        assert difference(*on_white) < 2


def test_a_drawing_is_never_upsampled(folder: Path) -> None:
    assert max(Pack(folder).sprite(FOX, NOTO, 2 * SIDE).size) == SIDE


@pytest.mark.parametrize("side", [64, 128])
def test_a_scene_of_a_pack_varies(folder: Path, side: int) -> None:
    pack = Pack(folder)
    for scene in SCENES:
        seen = {pack.scene(scene, Random(seed), side).tobytes() for seed in range(30)}
        # Plain white is nearly its own mirror image.
        fewest = SCENES_EACH if scene.phrase == "on a plain white background" else 2 * SCENES_EACH
        assert fewest <= len(seen) <= 2 * SCENES_EACH


def test_drawing_on_a_scene_does_not_change_it(folder: Path) -> None:
    pack = Pack(folder)
    pack.scene(MEADOW, Random(0), 64).paste((0, 0, 0), (0, 0, 64, 64))
    assert np.asarray(pack.scene(MEADOW, Random(0), 64)).any()


def test_a_pack_names_the_licenses_of_its_drawings(folder: Path) -> None:
    reported = (folder / "SOURCES.txt").read_text()
    for style in STYLES:
        assert f"@iconify-json/{style.name}@" in reported
        assert style.license in reported


def test_shards_are_written_from_a_pack_without_other_packages(folder: Path, tmp_path: Path) -> None:
    # Also in the processes that the command starts, these imports fail as if the packages were missing.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({UNNEEDED}))\n")
    out = tmp_path / "shards"
    command = [
        sys.executable,
        "-m",
        "reimagen_demo.data.compose",
        "--pack",
        str(folder),
        "--count",
        str(COUNT),
        str(out),
    ]
    command += ["--split", "held-out"]
    paths = os.pathsep.join([str(tmp_path), "demo"])
    result = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    with tarfile.open(out / "00000.tar") as tar:
        names = {member.name for member in tar}
    suffixes = ("png", "txt", "json", "neighbor0.webp", "neighbor0.txt", "neighbor0.matte.png", "neighbor0.json")
    assert names >= {f"{number:08d}.{suffix}" for number in range(COUNT) for suffix in suffixes}
