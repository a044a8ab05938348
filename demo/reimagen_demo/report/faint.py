"""Print the held-out entities that are pale, and those that are thin, in every style.

`prompts.py` holds the lists. The rule looks at the drawings alone, not at generated images.
"""

from pathlib import Path
from typing import Annotated, Final

import cv2
import numpy as np
import typer
from PIL import Image

from reimagen_demo.art.entities import of_split
from reimagen_demo.art.icons import STYLES, Art

SIDE: Final = 96
PALE: Final = 160.0
"""Least mean lightness, of 255, of a pale thing."""
THIN: Final = 0.39
"""Greatest thickness of a thin thing, as a share of its longest edge."""


def lightness(drawing: Image.Image) -> float:
    """Return the mean lightness of a drawing's visible pixels, of 255."""
    pixels = np.asarray(drawing.convert("RGBA")).astype(np.float64)
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
    return float(light[_visible(pixels)].mean())


def thickness(drawing: Image.Image) -> float:
    """Return the diameter of the largest disk inside a drawing's outline, as a share of its longest edge."""
    visible = np.pad(_visible(np.asarray(drawing.convert("RGBA"))), 1).astype(np.uint8)
    return 2 * float(cv2.distanceTransform(visible, cv2.DIST_L2, 5).max()) / max(drawing.size)


def _visible(pixels: np.ndarray) -> np.ndarray:
    visible: np.ndarray = pixels[..., 3] > 128
    return visible


def main(
    art_folder: Annotated[Path, typer.Option(help="Folder of the icon art, which is installed if missing.")] = Path(
        "build/demo"
    ),
) -> None:
    """Print the held-out entities that are pale, and those that are thin, in every style."""
    art = Art(art_folder)
    art.install()
    drawings = {entity.name: [art.sprite(entity, style, SIDE) for style in STYLES] for entity in of_split("held-out")}
    print("pale:", ", ".join(name for name, each in drawings.items() if min(map(lightness, each)) >= PALE))
    print("thin:", ", ".join(name for name, each in drawings.items() if max(map(thickness, each)) <= THIN))


if __name__ == "__main__":
    typer.run(main)
