"""One reference under twelve prompts that move, scale, mirror, turn, recolor and double it, and change its scene.

`python -m reimagen_demo.report.transformations` draws them.
"""

import shutil
import textwrap
from pathlib import Path
from typing import Final

import typer

from reimagen_demo.art.entities import by_code
from reimagen_demo.art.icons import STYLES, Art
from reimagen_demo.art.images import PairImages
from reimagen_demo.report.contact_sheet import Cell, Row, contact_sheet, webp
from reimagen_demo.stack import knowledge_base
from reimagen_demo.stack.client import draw
from reimagen_demo.stack.running import console, report_errors, serving

ENTITY: Final = "1f9a9"
"""A flamingo, which is held out of training."""
PROMPTS: Final = (
    "a flamingo on the left on the beach",
    "a flamingo in the top right corner on the beach",
    "a tiny flamingo on the beach",
    "a huge flamingo on the beach",
    "a flamingo facing the other way on the beach",
    "a flamingo upside down on the beach",
    "a flamingo tilted to the right on the beach",
    "a blue flamingo on the beach",
    "two flamingos on the beach",
    "a flamingo in the snow",
    "a flamingo in space",
    "a small flamingo facing the other way on the right, in a forest at night",
)
SHEET: Final = Path("docs/images/transformations.webp")
SIZE: Final = 256
SEED: Final = 1
_COLUMNS: Final = 4
_LINE: Final = 38
"""Characters of a line below an image."""
_LARGEST_FILE: Final = 290_000


def base(build: Path) -> Path:
    """Build a knowledge base of the reference alone, and return its folder.

    Raises:
        RuntimeError: npm or the retriever's build failed.
    """
    art, entity, style, folder = Art(build), by_code()[ENTITY], STYLES[0], build / "transformations"
    art.install()
    image = PairImages(art).file(entity, style).read_bytes()
    knowledge_base.write_shards([(knowledge_base.note(art, entity, style), image)], folder / "pairs")
    shutil.rmtree(folder / "kb", ignore_errors=True)
    knowledge_base.index(folder / "pairs", folder / "kb")
    return folder / "kb"


def main() -> None:
    """Draw the prompts, none picked and all from one seed, and write their sheet into docs/images."""
    cells: list[Cell] = []
    build = Path("build/demo")
    with report_errors(), serving(build, base(build)) as system:
        for prompt in PROMPTS:
            answer = draw(system.generator.url, prompt, SIZE, SEED, k=1)
            console.print(f"  {prompt}  {answer.seconds:.1f} s")
            cells.append((answer.image, textwrap.fill(prompt, _LINE)))
            reference = (answer.neighbors[0].image, answer.neighbors[0].label)
    rows = [
        Row("the reference" if not first else "", [reference] if not first else [], cells[first : first + _COLUMNS])
        for first in range(0, len(cells), _COLUMNS)
    ]
    SHEET.write_bytes(webp(contact_sheet(rows), _LARGEST_FILE))
    console.print(f"{SHEET}: {len(cells)} images of {SIZE} pixels, seed {SEED}")


if __name__ == "__main__":
    typer.run(main)
