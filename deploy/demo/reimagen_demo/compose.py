"""Writes training shards: things on scenes, each with the pictures that the retriever finds for its prompt.

A shard is a WebDataset tar; a sample is `KEY.png` with `KEY.txt` and `KEY.json`, and its neighbors
`KEY.neighbor0.png`, `KEY.neighbor0.txt`, `KEY.neighbor1.png` ... Above 64 pixels the pictures are WebP.
"""

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from PIL import Image
from tqdm import tqdm

from reimagen_demo.composer import Composer, Placed
from reimagen_demo.frequency import Pool
from reimagen_demo.pack import Pack
from reimagen_demo.pairs import PairId
from reimagen_demo.recipes import Recipe, judge_neighbors, make_recipes

SHARD_SAMPLES = 500
LARGEST_PNG = 64
"""Side in pixels up to which samples are stored as PNG."""
VARIED = 0.3
"""Share of neighbors that training shows varied: a user's own pictures are not all alike."""


@dataclass(frozen=True)
class Source:
    """Where pictures come from."""

    folder: Path
    """Of the icon art, or of a pack."""
    packed: bool

    def composer(self, size: int) -> Composer:
        """Draws pictures of that side in pixels."""
        if self.packed:
            return Composer(Pack(self.folder), size)
        # Imported here, because a machine that has a pack needs nothing that draws vectors.
        from reimagen_demo.art import Art
        from reimagen_demo.pictures import ArtPictures

        return Composer(ArtPictures(Art(self.folder)), size)


@dataclass(frozen=True)
class ShardTask:
    """What one process needs to know to write one shard."""

    source: Source
    path: Path
    """The shard to write."""
    size: int
    """Side of the pictures, in pixels."""
    seed: str
    """Of what recipes leave open."""
    varied: float
    """Share of neighbors that are varied."""
    aligned: bool
    """Whether the neighbors are the picture's own things, alone, where they stand in it."""
    recipes: tuple[Recipe, ...]


def plan(
    out_folder: Path, recipes: Sequence[Recipe], *, source: Source, size: int, seed: str, varied: float, aligned: bool
) -> list[ShardTask]:
    """The shards that together hold the samples of these recipes."""
    return [
        ShardTask(
            source=source,
            path=out_folder / f"{number:05d}.tar",
            size=size,
            seed=seed,
            varied=varied,
            aligned=aligned,
            recipes=tuple(recipes[first : first + SHARD_SAMPLES]),
        )
        for number, first in enumerate(range(0, len(recipes), SHARD_SAMPLES))
    ]


def write_shard(task: ShardTask) -> int:
    """Writes one shard, under its final name only once it is whole; gives its number of samples."""
    writer = _writer(task.source, task.size)
    partial = task.path.with_suffix(".part")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for recipe in task.recipes:
            rng = Random(f"{task.seed}/{recipe.number}")
            for suffix, content in writer.sample(rng, recipe, varied=task.varied, aligned=task.aligned):
                member = tarfile.TarInfo(f"{recipe.number:08d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    partial.rename(task.path)
    return len(task.recipes)


class _Writer:
    """Draws samples of one size, keeping the knowledge base's pictures as files in memory."""

    def __init__(self, composer: Composer, size: int) -> None:
        self._composer = composer
        self._suffix = "png" if size <= LARGEST_PNG else "webp"
        self._neighbor = lru_cache(None)(lambda pair: _encode(composer.neighbor(pair)))

    def sample(self, rng: Random, recipe: Recipe, *, varied: float, aligned: bool) -> Iterator[tuple[str, bytes]]:
        """The members of one sample."""
        shown = recipe.composition
        picture, things = self._composer.picture_and_things(rng, shown, recipe.styles)
        yield self._suffix, _encode(picture)
        yield "txt", recipe.prompt.encode()
        yield "json", recipe.facts_json().encode()
        neighbors: Iterable[tuple[bytes, str]]
        if aligned:
            neighbors = self._aligned_neighbors(rng, recipe, things)
        else:
            neighbors = (self._found_neighbor(rng, PairId.parse(name), varied) for name in recipe.neighbors)
        for rank, (content, caption) in enumerate(neighbors):
            yield f"neighbor{rank}.{self._suffix}", content
            yield f"neighbor{rank}.txt", caption.encode()

    def _aligned_neighbors(self, rng: Random, recipe: Recipe, things: Sequence[Placed]) -> Iterator[tuple[bytes, str]]:
        """Each thing of the picture; of one thing alone, also what was found of it in another style, in its place.

        Attention knows no order of neighbors: from two styles the network learns to draw one, and no mixture.
        """
        shown = recipe.composition.entities
        for entity, thing in zip(shown, things, strict=False):  # two of one: the first
            yield _encode(self._composer.aligned_neighbor(rng, thing)), entity.phrase
        found = (PairId.parse(name) for name in recipe.neighbors)
        other = next((pair for pair in found if pair.entity == shown[0] and pair.style != recipe.styles[0]), None)
        if len(shown) == 1 and other is not None:
            thing = self._composer.in_place_of(things[0], shown[0], other.style)
            yield _encode(self._composer.aligned_neighbor(rng, thing)), shown[0].phrase

    def _found_neighbor(self, rng: Random, pair: PairId, varied: float) -> tuple[bytes, str]:
        vary = rng.random() < varied
        return _encode(self._composer.varied_neighbor(rng, pair)) if vary else self._neighbor(pair), pair.caption


@cache
def _writer(source: Source, size: int) -> _Writer:
    """This process's writer: shards that follow each other share what it keeps."""
    return _Writer(source.composer(size), size)


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    if picture.width <= LARGEST_PNG:
        picture.save(buffer, "PNG", compress_level=4)
    else:
        picture.save(buffer, "WEBP", quality=95, method=2)
    return buffer.getvalue()


def compose(
    out_folder: Annotated[Path, typer.Argument(help="Folder for the shards; those already there are kept.")],
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the pictures, in pixels.")] = 64,
    count: Annotated[int, typer.Option(min=1, help="How many samples.")] = 60_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    split: Annotated[
        Pool, typer.Option(help="Which entities: those to train on, by frequency; those held out for evaluation; all.")
    ] = "train",
    plain: Annotated[bool, typer.Option("--plain", help="Name nothing but an entity and a scene.")] = False,
    neighbors: Annotated[bool, typer.Option(help="Include each sample's neighbors.")] = True,
    aligned: Annotated[
        bool,
        typer.Option(
            "--aligned", help="Neighbors show the picture's own things where they stand: to learn from first."
        ),
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="How many to work with.")] = 2,
    art_folder: Annotated[Path, typer.Option(help="Where the icon art is, or will be installed.")] = Path("build/demo"),
    pack: Annotated[
        Path | None, typer.Option(help="Draw from a pack, see reimagen_demo.pack, and not from the art.")
    ] = None,
) -> None:
    """Write training shards of icon art on scenes."""
    if pack:
        recipes = Pack(pack).recipes(split, plain=plain, count=count, neighbors=neighbors)
    else:
        recipes = _prepare(art_folder, count, seed, split, plain=plain, neighbors=neighbors, processes=processes)
    out_folder.mkdir(parents=True, exist_ok=True)
    tasks = plan(
        out_folder,
        recipes,
        source=Source(pack or art_folder, packed=pack is not None),
        size=size,
        seed=f"{seed}/{split}",
        varied=VARIED if split == "train" else 0.0,
        aligned=aligned,
    )
    missing = [task for task in tasks if not task.path.exists()]
    with (
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
        tqdm(total=sum(len(task.recipes) for task in missing), desc=f"{size} px", unit="sample") as progress,
    ):
        for written in pool.map(write_shard, missing):
            progress.update(written)


def _prepare(
    folder: Path, count: int, seed: int, split: Pool, *, plain: bool, neighbors: bool, processes: int
) -> list[Recipe]:
    """Has the art drawn and the knowledge base built where they are missing, and makes the recipes."""
    from reimagen_demo import knowledge_base
    from reimagen_demo.art import Art, draw_all

    art = Art(folder)
    art.install()
    base = knowledge_base.build(folder) if neighbors else None
    recipes = make_recipes(count, seed=seed, pool=split, plain=plain, knowledge_base=base)
    if base:
        found = judge_neighbors(recipes)
        print(
            f"BM25 found {found.neighbors:,} neighbors for {count:,} prompts: {found.wrong:,} show another thing than "
            f"those named, {found.short:,} prompts have fewer than two"
        )
    draw_all(art.sprite_file, {entity for recipe in recipes for entity in recipe.composition.entities}, processes)
    return recipes


if __name__ == "__main__":
    typer.run(compose)
