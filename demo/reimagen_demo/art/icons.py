"""The icon art: installed from npm's registry, rendered once, and cached as transparent images."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image
from tqdm import tqdm

from reimagen_demo.art.entities import Entity

PACKAGE_FOLDER = Path(__file__).resolve().parents[2]
SPRITE_SIDE = 512


@dataclass(frozen=True)
class Style:
    """An icon set."""

    name: str
    """Name of the set, and of its package in npm's scope `@iconify-json`."""
    names_from: str
    """The set whose `chars.json` lists the icons' names; the 3D set's own is empty."""
    license: str
    """SPDX identifier of the license."""


STYLES = (
    Style("fluent-emoji", names_from="fluent-emoji-flat", license="MIT"),
    Style("noto", names_from="noto", license="Apache-2.0"),
    Style("twemoji", names_from="twemoji", license="CC-BY-4.0"),
    Style("fluent-emoji-flat", names_from="fluent-emoji-flat", license="MIT"),
)


class Art:
    """The four icon sets in a folder of the build, with their rendered sprites."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def packages(self) -> Path:
        """The folder in which npm installs the icon sets."""
        return self.folder / "npm"

    def install(self) -> None:
        """Install the locked packages unless they are installed already.

        Raises:
            RuntimeError: npm failed; the message contains npm's output.
        """
        lock = (PACKAGE_FOLDER / "package-lock.json").read_bytes()
        done = self.packages / "installed-lock.json"
        if done.exists() and done.read_bytes() == lock:
            return
        self.packages.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(PACKAGE_FOLDER / name, self.packages / name)
        npm = Path(sys.executable).with_name("npm")
        command = [str(npm), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        # npm's entry point looks for node on the PATH, which lacks a virtual environment that is not activated.
        environment = os.environ | {"PATH": f"{npm.parent}{os.pathsep}{os.environ['PATH']}"}
        result = subprocess.run(
            command, cwd=self.packages, env=environment, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"npm could not install the icon art:\n{result.stdout}{result.stderr}")
        # Sprites and images of other versions of the art are outdated.
        for cache_folder in ("sprites", "images"):
            shutil.rmtree(self.folder / cache_folder, ignore_errors=True)
        done.write_bytes(lock)

    def icon_name(self, entity: Entity, style: Style) -> str:
        """Return the entity's name in that icon set."""
        return str(_read_json(self._package(style.names_from) / "chars.json")[entity.code])

    def source(self, entity: Entity, style: Style) -> str:
        """Return the source of the entity's image: package, version and icon."""
        version = _read_json(self._package(style.name) / "package.json")["version"]
        return f"npm:@iconify-json/{style.name}@{version}#{self.icon_name(entity, style)}"

    def svg(self, entity: Entity, style: Style, side: int) -> str:
        """Return the drawing as a square SVG document of that side in pixels."""
        icons = _read_json(self._package(style.name) / "icons.json")
        name = self.icon_name(entity, style)
        name = icons.get("aliases", {}).get(name, {}).get("parent", name)
        icon = icons["icons"][name]
        width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{side}" height="{side}" viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
        )

    def sprite(self, entity: Entity, style: Style, side: int) -> Image.Image:
        """Return the drawing, from the cache if possible: trimmed, RGBA, `side` pixels on its longer edge."""
        if side > SPRITE_SIDE:
            # Most drawings do not fill their canvas; with a larger canvas they need not be upsampled.
            return self.draw(entity, style, side, canvas=round(1.2 * side))
        with Image.open(self.sprite_file(entity, style)) as image:
            return _fit(image.convert("RGBA"), side)

    def sprite_file(self, entity: Entity, style: Style) -> Path:
        """Return the file of the cached drawing, after drawing it if it is missing."""
        path = self.folder / "sprites" / style.name / f"{entity.code}.png"
        return cached(path, lambda: self.draw(entity, style, SPRITE_SIDE, canvas=SPRITE_SIDE))

    def draw(self, entity: Entity, style: Style, side: int, *, canvas: int) -> Image.Image:
        """Return the drawing, rendered on a square of `canvas` pixels, trimmed, and scaled to `side`."""
        png = resvg_py.svg_to_bytes(svg_string=self.svg(entity, style, canvas), dpi=96)
        with Image.open(io.BytesIO(bytes(png))) as rendered:
            image = rendered.convert("RGBA")
        # The almost invisible rim of a 3D drawing's blur does not count as part of its outline.
        outline = image.getchannel("A").point([255 * (alpha > 8) for alpha in range(256)]).getbbox()
        if outline is None:
            raise RuntimeError(f"{style.name} draws nothing for {entity.phrase} ({entity.code})")
        return _fit(image.crop(outline), side)

    def _package(self, name: str) -> Path:
        return self.packages / "node_modules" / "@iconify-json" / name


def cached(path: Path, draw: Callable[[], Image.Image]) -> Path:
    """Return the path, after drawing the image that belongs there if it is missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        draw().save(partial, "PNG", compress_level=6)
        partial.rename(path)
    return path


def draw_all(files: Callable[[Entity, Style], Path], chosen: Iterable[Entity], processes: int) -> None:
    """Draw all missing cached files of the entities, in all styles, with a progress bar.

    Args:
        files: returns the cached file of one drawing, drawing it if it is missing; it must be picklable.
        chosen: the entities.
        processes: number of processes that draw.
    """
    pairs = [(entity, style) for entity in chosen for style in STYLES]
    # A forked child may hang if another package has started threads, so processes are spawned.
    with (
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
        tqdm(total=len(pairs), desc="drawing the icon art", unit="icon") as progress,
    ):
        for _ in pool.map(files, *zip(*pairs, strict=True), chunksize=16):
            progress.update()


@cache
def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Scale the longer edge to `side` pixels; Pillow resizes RGBA premultiplied, without dark fringes."""
    scale = side / max(image.size)
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )
