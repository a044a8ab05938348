"""Writes training shards: things on scenes, each with the knowledge base's pictures of the same thing.

A shard is a WebDataset tar; a sample is `KEY.png` with `KEY.txt` and `KEY.json`, and its neighbors
`KEY.neighbor0.png`, `KEY.neighbor0.txt`, `KEY.neighbor1.png` ... Above 64 pixels the pictures are WebP.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from PIL import Image
from tqdm import tqdm

from reimagen_demo.art import STYLES, Art, draw_all
from reimagen_demo.entities import Split, of_split
from reimagen_demo.pictures import Composer, PairPictures
from reimagen_demo.scenes import SCENES

SHARD_SAMPLES = 500
NEIGHBORS = 2
LARGEST_PNG = 64
"""Side in pixels up to which samples are stored as PNG."""


@dataclass(frozen=True)
class ShardTask:
    """What one process needs to know to write one shard."""

    art: Path
    """Folder of the icon art."""
    path: Path
    """The shard to write."""
    size: int
    """Side of the pictures, in pixels."""
    first: int
    """Number of the first sample, counted over all shards."""
    count: int
    """How many samples."""
    seed: int
    split: Split
    neighbors: bool


def plan(
    out_folder: Path, *, art: Path, size: int, count: int, seed: int, split: Split, neighbors: bool
) -> list[ShardTask]:
    """The shards that together hold `count` samples."""
    return [
        ShardTask(
            art=art,
            path=out_folder / f"{number:05d}.tar",
            size=size,
            first=first,
            count=min(SHARD_SAMPLES, count - first),
            seed=seed,
            split=split,
            neighbors=neighbors,
        )
        for number, first in enumerate(range(0, count, SHARD_SAMPLES))
    ]


def write_shard(task: ShardTask) -> int:
    """Writes one shard, under its final name only once it is whole; gives its number of samples."""
    composer = _composer(task.art, task.size)
    partial = task.path.with_suffix(".part")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(task.first, task.first + task.count):
            for suffix, content in _sample(task, composer, number):
                member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    partial.rename(task.path)
    return task.count


def _sample(task: ShardTask, composer: Composer, number: int) -> Iterator[tuple[str, bytes]]:
    """The members of one sample; a function of the seed and its number alone."""
    rng = Random(f"{task.seed}/{task.split}/{number}")
    entity, style, scene = rng.choice(of_split(task.split)), rng.choice(STYLES), rng.choice(SCENES)
    place = scene.phrase if rng.random() < 0.5 else rng.choice(scene.paraphrases)
    facts = {"entity": entity.name, "style": style.name, "scene": scene.phrase, "split": entity.split}
    yield _suffix(task.size), _encode(composer.on_scene(rng, entity, style, scene))
    yield "txt", f"{entity.phrase} {place}".encode()
    yield "json", json.dumps(facts).encode()
    if task.neighbors:
        others = [other for other in STYLES if other != style]
        chosen = [style, *rng.sample(others, NEIGHBORS - 1)]
        rng.shuffle(chosen)
        for rank, neighbor_style in enumerate(chosen):
            yield f"neighbor{rank}.{_suffix(task.size)}", _encode(composer.neighbor(entity, neighbor_style))
            yield f"neighbor{rank}.txt", entity.phrase.encode()


def _suffix(size: int) -> str:
    return "png" if size <= LARGEST_PNG else "webp"


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    if picture.width <= LARGEST_PNG:
        picture.save(buffer, "PNG", compress_level=4)
    else:
        picture.save(buffer, "WEBP", quality=95, method=2)
    return buffer.getvalue()


_composers: dict[tuple[Path, int], Composer] = {}


def _composer(art: Path, size: int) -> Composer:
    """This process's composer: shards that follow each other share its cache."""
    return _composers.setdefault((art, size), Composer(Art(art), size))


def compose(
    out_folder: Annotated[Path, typer.Argument(help="Folder for the shards; those already there are kept.")],
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the pictures, in pixels.")] = 64,
    count: Annotated[int, typer.Option(min=1, help="How many samples.")] = 40_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    split: Annotated[
        Split, typer.Option(help="Which entities: those to train on, or those held out for evaluation.")
    ] = "train",
    neighbors: Annotated[bool, typer.Option(help="Include each sample's neighbors.")] = True,
    processes: Annotated[int, typer.Option(min=1, help="How many to work with.")] = 2,
    art_folder: Annotated[Path, typer.Option(help="Where the icon art is, or will be installed.")] = Path("build/demo"),
) -> None:
    """Write training shards of icon art on scenes."""
    art = Art(art_folder)
    art.install()
    draw_all(art.sprite_file, of_split(split), processes)
    if neighbors:
        draw_all(PairPictures(art).file, of_split(split), processes)
    out_folder.mkdir(parents=True, exist_ok=True)
    tasks = plan(out_folder, art=art_folder, size=size, count=count, seed=seed, split=split, neighbors=neighbors)
    missing = [task for task in tasks if not task.path.exists()]
    with (
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
        tqdm(total=sum(task.count for task in missing), desc=f"{size} px", unit="sample") as progress,
    ):
        for written in pool.map(write_shard, missing):
            progress.update(written)


if __name__ == "__main__":
    typer.run(compose)
