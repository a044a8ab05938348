"""A pack: all inputs of shards in one folder, for a machine without Java, Node and a vector renderer.

`python -m reimagen_demo.data.pack OUT` writes it from the art and the knowledge base.
`reimagen_demo.data.compose --pack OUT` draws from it and needs only Pillow, NumPy, tqdm and typer.
"""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cached_property, lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Annotated
from zipfile import ZipFile, ZipInfo

import typer
from PIL import Image
from tqdm import tqdm

from reimagen_demo.art.entities import Entity, by_code, entities
from reimagen_demo.art.pairs import PAIR_FILL, PAIR_SIDE, PairId, pair_image
from reimagen_demo.scenes.registry import SCENES, Scene, by_phrase

SIDE = 256
"""Side of the pack's images in pixels; for drawings, the longer edge."""
SPRITE_QUALITY, SCENE_QUALITY = 85, 90
"""WebP quality; with these values the files stay below the limits."""
LARGEST_FILE, LARGEST_PACK = 15_000_000, 40_000_000
"""Limits of the file size and of the pack's total size, in bytes."""


class Pack:
    """A composer's source of images that reads a pack."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._small_scene = lru_cache(None)(self._read_scene)

    def sprite(self, entity: Entity, style: str, side: int) -> Image.Image:
        """Return a drawing, trimmed to its outline, RGBA, with at most `side` and `SIDE` pixels on its longer edge."""
        with Image.open(io.BytesIO(self._sprites[style].read(f"{entity.code}.webp"))) as opened:
            image = opened.convert("RGBA")
        scale = min(1.0, side / max(image.size))
        width, height = (max(1, round(edge * scale)) for edge in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)

    def scene(self, scene: Scene, rng: Random, side: int) -> Image.Image:
        """Return a copy of a random image of the scene, at random mirrored, RGB, of that side in pixels."""
        number = rng.randrange(len(self._scenes[scene.phrase].namelist()))
        read = self._small_scene if side <= 64 else self._read_scene
        image = read(scene.phrase, number, side)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image.copy()

    def pair(self, pair: PairId) -> Image.Image:
        """Return an image like the knowledge base's, RGB."""
        if pair.entity is None:
            return _decoded(self._pairs.read(f"{pair.style}.{pair.number}.webp"))
        return pair_image(self.sprite(pair.entity, pair.style, round(PAIR_FILL * PAIR_SIDE)), pair.code, pair.style)

    @cached_property
    def _sprites(self) -> dict[str, ZipFile]:
        return {path.stem: ZipFile(path) for path in (self._folder / "sprites").glob("*.zip")}

    @cached_property
    def _scenes(self) -> dict[str, ZipFile]:
        return {path.stem.replace("-", " "): ZipFile(path) for path in (self._folder / "scenes").glob("*.zip")}

    @cached_property
    def _pairs(self) -> ZipFile:
        return ZipFile(self._folder / "pairs.zip")

    def _read_scene(self, phrase: str, number: int, side: int) -> Image.Image:
        image = _decoded(self._scenes[phrase].read(f"{number}.webp"))
        return image if side == image.width else image.resize((side, side), Image.Resampling.LANCZOS)


def write(
    out_folder: Annotated[Path, typer.Argument(help="Folder of the pack.")],
    scenes: Annotated[int, typer.Option(min=1, help="Number of images of each scene.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the scenes; the same seed gives the same pack.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 2,
    art_folder: Annotated[Path, typer.Option(help="Folder of the icon art, which is installed if missing.")] = Path(
        "build/demo"
    ),
) -> None:
    """Write a pack from which shards can be composed elsewhere."""
    # Imported here, because the packages that it needs are not needed to read a pack.
    from reimagen_demo.art.icons import Art

    Art(art_folder).install()
    out_folder.mkdir(parents=True, exist_ok=True)
    write_images(out_folder, art_folder, entities(), scenes, seed, processes)
    _check(out_folder)


def write_images(
    out_folder: Path, art_folder: Path, chosen: Sequence[Entity], scenes: int, seed: int, processes: int
) -> None:
    """Write a pack's images, and a list of their sources.

    Args:
        out_folder: folder of the pack.
        art_folder: folder of the installed icon art.
        chosen: entities whose drawings the pack contains.
        scenes: number of images of each scene.
        seed: seed of the scenes.
        processes: number of worker processes.
    """
    from reimagen_demo.art.icons import STYLES, Art
    from reimagen_demo.stack.knowledge_base import SCENE_IMAGES

    art, sources = Art(art_folder), []
    for folder in (out_folder / "sprites", out_folder / "scenes"):
        folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
        for style in STYLES:
            draw = partial(_sprite_file, art_folder, style.name)
            path = out_folder / "sprites" / f"{style.name}.zip"
            _write_zip(path, workers, draw, [entity.code for entity in chosen])
            package, _, _ = art.source(chosen[0], style).partition("#")
            sources.append(f"sprites/{path.name}: drawings of {package}, {style.license}\n")
        for scene in SCENES:
            draw = partial(_scene_file, scene.phrase, seed)
            path = out_folder / "scenes" / f"{scene.phrase.replace(' ', '-')}.zip"
            _write_zip(path, workers, draw, [str(number) for number in range(scenes)])
        pairs = [f"{scene.phrase.replace(' ', '-')}.{number}" for scene in SCENES for number in range(SCENE_IMAGES)]
        _write_zip(out_folder / "pairs.zip", workers, partial(_pair_file, art_folder), pairs)
    sources.append("scenes/*.zip, pairs.zip: drawn by reimagen_demo.scenes.registry, Apache-2.0\n")
    (out_folder / "SOURCES.txt").write_text("".join(sources))


def _write_zip(path: Path, workers: Executor, draw: Callable[[str], bytes], names: Sequence[str]) -> None:
    """Write `NAME.webp` for each of the names; the same images give the same bytes."""
    with ZipFile(path, "w") as zipped:
        drawn = workers.map(draw, names, chunksize=8)
        for name, content in zip(names, tqdm(drawn, desc=path.name, total=len(names), unit="image"), strict=True):
            zipped.writestr(ZipInfo(f"{name}.webp"), content)


def _check(folder: Path) -> None:
    """Print the pack's size.

    Raises:
        ValueError: a file or the whole pack is too large.
    """
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for path, size in sizes.items():
        if size > LARGEST_FILE:
            raise ValueError(f"{path} has {size:,} bytes, at most {LARGEST_FILE:,} are allowed; write fewer scenes")
    total = sum(sizes.values())
    if total > LARGEST_PACK:
        raise ValueError(f"{folder} has {total:,} bytes, at most {LARGEST_PACK:,} are allowed; write fewer scenes")
    print(f"{folder}: {total:,} bytes in {len(sizes)} files, the largest {max(sizes.values()):,}")


def _sprite_file(art_folder: Path, style: str, code: str) -> bytes:
    from reimagen_demo.art.icons import Art
    from reimagen_demo.art.images import ArtImages

    return _encoded(ArtImages(Art(art_folder)).sprite(by_code()[code], style, SIDE), SPRITE_QUALITY)


def _scene_file(phrase: str, seed: int, number: str) -> bytes:
    return _encoded(by_phrase()[phrase].render(Random(f"{seed}/{phrase}/{number}"), SIDE), SCENE_QUALITY)


def _pair_file(art_folder: Path, name: str) -> bytes:
    from reimagen_demo.art.icons import Art
    from reimagen_demo.art.images import ArtImages

    return _encoded(ArtImages(Art(art_folder)).pair(PairId.parse(f"scene.{name}")), SCENE_QUALITY)


def _encoded(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _decoded(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")


if __name__ == "__main__":
    typer.run(write)
