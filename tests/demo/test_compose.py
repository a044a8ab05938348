import io
import json
import tarfile
from collections import defaultdict
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from reimagen_demo.art import STYLES, Art
from reimagen_demo.compose import ShardTask, compose, plan, write_shard
from reimagen_demo.entities import Split, entities
from reimagen_demo.pictures import Composer
from reimagen_demo.scenes import SCENES

BY_NAME = {entity.name: entity for entity in entities()}


def shard(
    art: Art, folder: Path, *, size: int = 64, seed: int = 0, split: Split = "train", neighbors: bool = True
) -> Path:
    (task,) = plan(folder, art=art.folder, size=size, count=4, seed=seed, split=split, neighbors=neighbors)
    assert write_shard(task) == 4
    return task.path


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


@pytest.mark.parametrize(("size", "suffix"), [(64, "png"), (128, "webp")])
def test_a_sample_holds_a_picture_its_prompt_and_two_neighbors(
    art: Art, out_folder: Path, size: int, suffix: str
) -> None:
    for sample in samples(shard(art, out_folder, size=size)):
        pictures = {suffix, f"neighbor0.{suffix}", f"neighbor1.{suffix}"}
        assert set(sample) == {*pictures, "txt", "json", "neighbor0.txt", "neighbor1.txt"}
        for name in pictures:
            assert picture(sample[name]).size == (size, size)
            assert picture(sample[name]).mode == "RGB"
        assert sample[f"neighbor0.{suffix}"] != sample[f"neighbor1.{suffix}"]


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_prompts_name_an_entity_of_the_split_in_a_scene(art: Art, out_folder: Path, split: Split) -> None:
    for sample in samples(shard(art, out_folder, split=split)):
        facts = json.loads(sample["json"])
        entity = BY_NAME[facts["entity"]]
        assert entity.split == facts["split"] == split
        (scene,) = (scene for scene in SCENES if scene.phrase == facts["scene"])
        assert sample["txt"].decode() in {f"{entity.phrase} {phrase}" for phrase in scene.phrases}
        assert sample["neighbor0.txt"] == sample["neighbor1.txt"] == entity.phrase.encode()


def test_one_neighbor_has_the_style_of_the_target(art: Art, out_folder: Path) -> None:
    for sample in samples(shard(art, out_folder)):
        facts = json.loads(sample["json"])
        (style,) = (style for style in STYLES if style.name == facts["style"])
        expected = Composer(art, 64).neighbor(BY_NAME[facts["entity"]], style)
        shown = [np.asarray(picture(sample[f"neighbor{rank}.png"])) for rank in range(2)]
        assert sum(np.array_equal(one, np.asarray(expected)) for one in shown) == 1


def test_the_same_seed_gives_the_same_bytes(art: Art, out_folder: Path, tmp_path: Path) -> None:
    first = shard(art, out_folder).read_bytes()
    assert shard(art, tmp_path).read_bytes() == first
    assert shard(art, tmp_path, seed=1).read_bytes() != first


def test_stages_without_neighbors_have_none(art: Art, out_folder: Path) -> None:
    for sample in samples(shard(art, out_folder, neighbors=False)):
        assert set(sample) == {"png", "txt", "json"}


def test_shards_share_no_sample(tmp_path: Path) -> None:
    tasks = plan(tmp_path, art=tmp_path, size=64, count=1234, seed=0, split="train", neighbors=True)
    numbers = [number for task in tasks for number in range(task.first, task.first + task.count)]
    assert numbers == list(range(1234))
    assert len({task.path for task in tasks}) == len(tasks)


def test_a_shard_that_fails_midway_never_looks_finished(art: Art, out_folder: Path, tmp_path: Path) -> None:
    broken = ShardTask(tmp_path / "no-art", out_folder / "00000.tar", 64, 0, 4, 0, "train", neighbors=True)
    with pytest.raises(FileNotFoundError):
        write_shard(broken)
    assert not broken.path.exists()


def test_what_stands_on_the_ground_has_a_shadow_on_it(art: Art) -> None:
    """Below the feet of a thing the ground is darker than where nothing stands."""
    composer, scene = Composer(art, 64), SCENES[0]
    seeds = range(12)
    entity, style = BY_NAME["alarm clock"], STYLES[1]
    placed = np.mean(
        [np.asarray(composer.on_scene(Random(s), entity, style, scene)).astype(float) for s in seeds], axis=0
    )
    empty = np.mean([np.asarray(scene.render(Random(s), 64)).astype(float) for s in seeds], axis=0)
    assert scene.ground is not None
    below = round(64 * scene.ground) + 4
    darker = (empty - placed).mean(axis=-1)[below]
    assert darker[24:40].min() > 2
    assert np.abs(darker[:4]).max() == 0


@pytest.mark.parametrize(
    ("arguments", "field"),
    [(["--size", "8"], "--size"), (["--count", "0"], "--count"), (["--split", "both"], "--split")],
)
def test_bad_options_are_named(tmp_path: Path, arguments: list[str], field: str) -> None:
    app = Typer()
    app.command()(compose)
    result = CliRunner().invoke(app, [str(tmp_path / "never"), *arguments])
    assert result.exit_code == 2
    assert field in result.output
    assert not (tmp_path / "never").exists()
