"""Write training shards: things on scenes, each with reference images and their placements in the image.

A shard is a WebDataset tar. A sample is `KEY.png` with `KEY.txt` and `KEY.json`, and for each neighbor
`KEY.neighbor0.webp`, `KEY.neighbor0.txt`, `KEY.neighbor0.matte.png` and `KEY.neighbor0.json`. Images above 64 pixels
are WebP, without loss above 128: lossy WebP halves the resolution of colors, and the networks would draw softer edges.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
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

from reimagen_demo.art.entities import entities, of_split
from reimagen_demo.data.composer import Composed, Composer
from reimagen_demo.data.frequency import Pool
from reimagen_demo.data.pack import Pack
from reimagen_demo.data.placing import Placement
from reimagen_demo.data.recipes import Recipe, make_recipe
from reimagen_demo.data.references import Reference, ReferenceImage, References

SHARD_SAMPLES = 500
LARGEST_PNG = 64
"""Largest side in pixels of images that are stored as PNG."""
LARGEST_LOSSY = 128
"""Largest side in pixels of images that are stored as lossy WebP: the references of samples of 64 pixels."""


@dataclass(frozen=True)
class Source:
    """The source of a composer's images."""

    folder: Path
    """Folder of the icon art, or of a pack."""
    packed: bool

    def composer(self, size: int) -> Composer:
        """Return a composer of images of that side in pixels."""
        if self.packed:
            return Composer(Pack(self.folder), size)
        # Imported here, because a machine that has a pack lacks the packages that render vectors.
        from reimagen_demo.art.icons import Art
        from reimagen_demo.art.images import ArtImages

        return Composer(ArtImages(Art(self.folder)), size)


@dataclass(frozen=True)
class Kind:
    """The settings that determine the composed samples."""

    size: int
    """Side of the images, in pixels."""
    seed: int
    pool: Pool
    plain: bool
    """Whether prompts state only one thing and a scene."""
    neighbors: bool
    """Whether samples have neighbors."""
    unseen: bool = False
    """Whether scenes are named in wordings that training never uses."""

    def recipe(self, number: int) -> Recipe:
        """Return the recipe of a sample, by its number."""
        return make_recipe(
            self.seed, self.pool, number, plain=self.plain, references=self.neighbors, unseen=self.unseen
        )


@dataclass(frozen=True)
class ShardTask:
    """The input of one process that writes one shard."""

    source: Source
    kind: Kind
    path: Path
    """The shard to write."""
    numbers: range
    """Numbers of the samples in the shard."""


def plan(out_folder: Path, count: int, source: Source, kind: Kind) -> list[ShardTask]:
    """Return the tasks of the shards that together hold `count` samples."""
    return [
        ShardTask(
            source,
            kind,
            out_folder / f"{shard:05d}.tar",
            range(first, min(first + SHARD_SAMPLES, count)),
        )
        for shard, first in enumerate(range(0, count, SHARD_SAMPLES))
    ]


def write_shard(task: ShardTask) -> int:
    """Write one shard, which gets its final name when it is complete; return its number of samples."""
    writer = _writer(task.source, task.kind.size)

    def sample(number: int) -> Iterator[tuple[str, bytes]]:
        rng = Random(f"{task.kind.seed}/{task.kind.pool}/{number}/pixels")
        return writer.sample(rng, task.kind.recipe(number))

    write_samples(task.path, ((number, sample(number)) for number in task.numbers))
    return len(task.numbers)


def write_samples(path: Path, samples: Iterable[tuple[int, Iterable[tuple[str, bytes]]]]) -> None:
    """Write samples, by their numbers, as one shard, which gets its final name when it is complete."""
    partial = path.with_suffix(".part")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, members in samples:
            for suffix, content in members:
                member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    partial.rename(path)


class Writer:
    """Encoder of samples of one size, with a cache of the files of references that look as in the knowledge base."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._references = References(composer)
        self._base_files = lru_cache(None if composer.size <= LARGEST_PNG else 256)(
            lambda entity, style: _Files(self._references.as_in_knowledge_base(entity, style))
        )

    def sample(self, rng: Random, recipe: Recipe) -> Iterator[tuple[str, bytes]]:
        """Yield the members of one sample: the suffix and the content of each."""
        composed = self._composer.compose(rng, recipe.composition, recipe.styles, recipe.flipped)
        yield _suffix(composed.image), _encode(composed.image)
        yield "txt", recipe.prompt.encode()
        yield "json", json.dumps(_facts(recipe, composed)).encode()
        for rank, reference in enumerate(recipe.references):
            files = self._files(rng, reference)
            placements = () if reference.thing is None else composed.placements[reference.thing]
            yield f"neighbor{rank}.{files.suffix}", files.image
            yield f"neighbor{rank}.txt", reference.entity.phrase.encode()
            yield f"neighbor{rank}.matte.png", files.matte
            facts = {"box": _rounded(files.box), "placements": [_numbers(placement) for placement in placements]}
            yield f"neighbor{rank}.json", json.dumps(facts).encode()

    def _files(self, rng: Random, reference: Reference) -> "_Files":
        if reference.varied:
            return _Files(self._references.draw(rng, reference))
        return self._base_files(reference.entity, reference.style)


class _Files:
    """A reference's files as they are stored."""

    def __init__(self, reference: ReferenceImage) -> None:
        self.suffix = _suffix(reference.image)
        self.image = _encode(reference.image)
        self.matte = _encode_png(reference.matte)
        self.box = reference.box


@cache
def _writer(source: Source, size: int) -> Writer:
    """Return this process's writer, so that its shards share one cache."""
    return Writer(source.composer(size))


def _facts(recipe: Recipe, composed: Composed) -> dict[str, object]:
    """Return the facts about a sample; placements are those of the drawings, not of the references."""
    facts = recipe.facts()
    for thing, placements, flipped in zip(facts["things"], composed.placements, recipe.flipped, strict=True):
        thing["placements"] = [_numbers(placement) for placement in placements]
        thing["references_mirrored"] = flipped
    return facts


def _numbers(placement: Placement) -> list[float]:
    x, y, size, angle = _rounded((placement.x, placement.y, placement.size, placement.angle))
    return [x, y, size, int(placement.mirrored), angle]


def _rounded(numbers: tuple[float, ...]) -> list[float]:
    return [round(number, 5) for number in numbers]


def _suffix(image: Image.Image) -> str:
    return "png" if image.width <= LARGEST_PNG else "webp"


def _encode(image: Image.Image) -> bytes:
    if image.width <= LARGEST_PNG:
        return _encode_png(image)
    buffer = io.BytesIO()
    if image.width <= LARGEST_LOSSY:
        image.save(buffer, "WEBP", quality=95, method=1)
    else:
        image.save(buffer, "WEBP", lossless=True, quality=20, method=1)
    return buffer.getvalue()


def _encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def compose(
    out_folder: Annotated[Path, typer.Argument(help="Folder for the shards; existing shards are not rewritten.")],
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side of the images, in pixels.")] = 64,
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 60_000,
    seed: Annotated[int, typer.Option(help="Seed of the samples; the same seed gives the same bytes.")] = 0,
    split: Annotated[
        Pool,
        typer.Option(help="Entities to draw: train (by frequency), held-out (for evaluation) or all (equally often)."),
    ] = "train",
    plain: Annotated[bool, typer.Option("--plain", help="State only one entity and a scene.")] = False,
    unseen: Annotated[bool, typer.Option("--unseen", help="Name scenes in wordings that training never uses.")] = False,
    neighbors: Annotated[bool, typer.Option(help="Include each sample's neighbors.")] = True,
    processes: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 2,
    art_folder: Annotated[Path, typer.Option(help="Folder of the icon art, which is installed if missing.")] = Path(
        "build/demo"
    ),
    pack: Annotated[
        Path | None, typer.Option(help="Folder of a pack (see reimagen_demo.data.pack) to use instead of the art.")
    ] = None,
) -> None:
    """Write training shards of icon art on scenes."""
    if pack is None:
        _prepare(art_folder, split, processes)
    elif not (pack / "SOURCES.txt").exists():
        raise typer.BadParameter(f"{pack} is not a pack; `python -m reimagen_demo.data.pack` writes one")
    out_folder.mkdir(parents=True, exist_ok=True)
    source = Source(pack or art_folder, packed=pack is not None)
    tasks = plan(out_folder, count, source, Kind(size, seed, split, plain, neighbors, unseen))
    missing = [task for task in tasks if not task.path.exists()]
    with (
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
        tqdm(total=sum(len(task.numbers) for task in missing), desc=f"{size} px", unit="sample") as progress,
    ):
        for written in pool.map(write_shard, missing):
            progress.update(written)


def _prepare(folder: Path, split: Pool, processes: int) -> None:
    """Install the art and draw the missing sprites."""
    from reimagen_demo.art.icons import Art, draw_all

    art = Art(folder)
    art.install()
    draw_all(art.sprite_file, entities() if split == "all" else of_split(split), processes)


if __name__ == "__main__":
    typer.run(compose)
