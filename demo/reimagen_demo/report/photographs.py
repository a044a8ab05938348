"""Photographs whose license is free, of scikit-image's wheel, and a sheet of their cut-outs.

`python -m reimagen_demo.report.photographs` writes the sheet of the documentation. It fetches the wheel
with pip, and does not install it.
"""

import io
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer
from PIL import Image

from reimagen_demo.report.contact_sheet import grid, webp
from reimagen_demo.stack.running import console, report_errors
from reimagen_generator.cut_out.cut_out import CutOut, cut_out

WHEEL: Final = "scikit-image==0.26.0"
SHEET: Final = Path("docs/images/cut-outs.webp")
_COLUMNS, _SIDE, _LARGEST_FILE = 4, 150, 200_000


@dataclass(frozen=True)
class Photograph:
    """A photograph of the wheel."""

    file: str
    caption: str
    license: str

    @property
    def source(self) -> str:
        """The package, its version and the file."""
        return f"pypi:{WHEEL.replace('==', '@')}#data/{self.file}"


PHOTOGRAPHS: Final = (
    Photograph("chelsea.png", "Chelsea the cat", "CC0-1.0"),
    Photograph("coffee.png", "a cup of coffee", "CC0-1.0"),
    Photograph("rocket.jpg", "a Falcon 9 rocket", "public domain"),
    Photograph("astronaut.png", "an astronaut in an orange suit", "public domain"),
)
"""Those of one thing in color."""
OTHERS: Final = (
    Photograph("camera.png", "a photographer", "CC0-1.0"),
    Photograph("gravel.png", "gravel", "CC0-1.0"),
    Photograph("brick.png", "bricks", "CC0-1.0"),
    Photograph("hubble_deep_field.jpg", "galaxies", "public domain"),
)
"""One of two things without color, and three without a thing."""


def fetch(folder: Path) -> None:
    """Fetch and unpack the photographs unless they are there.

    Raises:
        RuntimeError: pip failed; it prints the reason on stderr.
    """
    if (folder / "skimage").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    run(folder, sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL)
    with zipfile.ZipFile(next(folder.glob("scikit_image-*.whl"))) as wheel:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith("skimage/data/")])


def cut(folder: Path, photograph: Photograph) -> CutOut:
    """Return the cut-out of a fetched photograph."""
    return cut_out((folder / "skimage/data" / photograph.file).read_bytes(), field=photograph.file)


def run(folder: Path, *command: str) -> None:
    """Run a command in a folder.

    Raises:
        RuntimeError: It failed; it prints the reason on stderr.
    """
    if subprocess.run(command, cwd=folder, check=False).returncode:
        raise RuntimeError(f"{' '.join(command)} failed in {folder}")


def main() -> None:
    """Write the sheet: each photograph beside its cut-out, or beside itself if nothing was cut out."""
    folder = Path("build/demo/foreign")
    cells = []
    with report_errors():
        fetch(folder)
        for photograph in (*PHOTOGRAPHS, *OTHERS):
            with Image.open(folder / "skimage/data" / photograph.file) as opened:
                whole = _square(opened.convert("RGB"))
            found = cut(folder, photograph)
            used = Image.open(io.BytesIO(found.image)) if found.image else whole
            cells.append(((whole, used), photograph.caption + (", unchanged" if found.warning else "")))
            console.print(f"  {photograph.caption}: {found.warning or 'cut out'}")
    SHEET.write_bytes(webp(grid(cells, _COLUMNS, _SIDE), _LARGEST_FILE))


def _square(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", 2 * (max(image.size),), "white")
    canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
    return canvas


if __name__ == "__main__":
    typer.run(main)
