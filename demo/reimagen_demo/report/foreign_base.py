"""Draw from a knowledge base that nobody here made: clip art of another package, and cut-outs of photographs.

    python -m reimagen_demo.report.foreign_base

It needs Debian's `apt-get` and `dpkg-deb`, which fetch the Open Clip Art Library (openclipart-svg) without
installing it.
"""

import html
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import resvg_py
import typer
from PIL import Image
from tqdm import tqdm

from reimagen_demo.art.entities import ARTICLES, by_name
from reimagen_demo.art.pairs import PAIR_FILL, PAIR_SIDE, in_the_middle, on_plain_ground, pair_hue
from reimagen_demo.report import photographs
from reimagen_demo.report.contact_sheet import grid, webp
from reimagen_demo.scenes.registry import SCENES
from reimagen_demo.stack import knowledge_base
from reimagen_demo.stack.client import draw
from reimagen_demo.stack.knowledge_base import PairNote
from reimagen_demo.stack.running import console, report_errors, serving

KINDS: Final = (
    *("animals", "buildings", "food", "plants", "recreation/music", "recreation/toys", "tools"),
    *("transportation/boating", "transportation/vehicles"),
)
"""The library's folders of things that stand for themselves; the others hold symbols, flags, borders and people."""
PROMPTS: Final = 40
SIZE: Final = 256
SHEET: Final = Path("docs/images/foreign-base.webp")
_WORDS: Final = 3
"""Most words of a title that is a caption."""
_FILLED: Final = (0.05, 0.95)
"""Share of a drawing's box that it must fill: less are a few lines, more have a background of their own."""
_CANVAS: Final = 384
_TITLE: Final = re.compile(r"<dc:title>([^<]*)")
_PLURAL: Final = re.compile(r"(?<![suo])s$")
_COLUMNS, _SIDE, _LARGEST_FILE = 5, 144, 290_000


def fetch(folder: Path) -> None:
    """Fetch and unpack the library and the photographs unless they are there.

    Raises:
        RuntimeError: A command failed; it prints the reason on stderr.
    """
    photographs.fetch(folder)
    if not (folder / "usr").exists():
        photographs.run(folder, "apt-get", "download", "openclipart-svg")
        photographs.run(folder, "dpkg-deb", "-x", *(path.name for path in folder.glob("openclipart-svg_*.deb")), ".")


def clip_art(folder: Path) -> Iterator[tuple[PairNote, bytes]]:
    """Yield the pair of every drawing of a thing with a title of few words, the first of each title."""
    library = folder / "usr/share/openclipart/svg"
    package = next(folder.glob("openclipart-svg_*.deb")).name.split("_")[1].replace("%3a", ":")
    seen = set[str]()
    for path in tqdm([path for kind in KINDS for path in sorted((library / kind).rglob("*.svg"))], unit="drawing"):
        title = caption_of(path.read_text("utf-8", errors="replace"))
        sprite = rendered(path) if title and title not in seen else None
        if sprite is None:
            continue
        seen.add(title)
        name = str(path.relative_to(library))
        facts = PairNote(
            id=name.removesuffix(".svg"),
            caption=title,
            source=f"debian:openclipart-svg@{package}#{name}",
            license="CC-PDDC",
            entity=title,
            style="openclipart",
        )
        image = on_plain_ground(sprite, PAIR_SIDE, pair_hue(name, "openclipart"), *in_the_middle(sprite))
        yield facts, _png(image)


def caption_of(svg: str) -> str:
    """Return the title of a drawing as a caption with an article; "" for a title that is not one to three words."""
    found = _TITLE.search(svg)
    title = " ".join(html.unescape(found[1]).replace("_", " ").lower().split()) if found else ""
    words = [word for word in title.split() if not word.isdigit()]
    words = words[1:] if words and f"{words[0]} " in {*ARTICLES, "the "} else words
    if not 1 <= len(words) <= _WORDS or not all(re.fullmatch(r"[a-z]{2,}(-[a-z]+)*", word) for word in words):
        return ""
    name = " ".join(words)
    article = "" if _PLURAL.search(name) else "an " if name[0] in "aeiou" else "a "
    return article + name


def rendered(path: Path) -> Image.Image | None:
    """Return a drawing, RGBA, trimmed to its outline; None if rendering fails, or it is nearly empty or full."""
    try:
        png = resvg_py.svg_to_bytes(svg_path=str(path), width=_CANVAS, skip_system_fonts=True)
    except ValueError:
        return None
    with Image.open(io.BytesIO(bytes(png))) as image:
        drawing = image.convert("RGBA")
    box = drawing.getchannel("A").point([255 * (alpha > 8) for alpha in range(256)]).getbbox()
    if box is None:
        return None
    drawing = drawing.crop(box)
    opacity = drawing.getchannel("A").resize((64, 64), Image.Resampling.BOX)
    least, most = _FILLED
    if not least <= sum(opacity.tobytes()) / (255 * 64 * 64) <= most:
        return None
    scale = PAIR_FILL * PAIR_SIDE / max(drawing.size)
    width, height = (max(1, round(edge * scale)) for edge in drawing.size)
    return drawing.resize((width, height), Image.Resampling.LANCZOS)


def photograph_pairs(folder: Path) -> Iterator[tuple[PairNote, bytes]]:
    """Yield the pairs of the photographs, cut out.

    Raises:
        RuntimeError: Nothing could be cut out of one.
    """
    for photograph in photographs.PHOTOGRAPHS:
        cut = photographs.cut(folder, photograph)
        if cut.warning:
            raise RuntimeError(f"{photograph.file}: {cut.warning}")
        with Image.open(io.BytesIO(cut.image)) as image:
            small = image.resize((PAIR_SIDE, PAIR_SIDE), Image.Resampling.LANCZOS)
        facts = PairNote(
            id=f"photograph/{photograph.file}",
            caption=photograph.caption,
            source=f"{photograph.source}, cut out",
            license=photograph.license,
            entity=photograph.caption,
            style="photograph",
        )
        yield facts, _png(small)


def prompts(clips: list[PairNote], photos: list[PairNote]) -> list[tuple[PairNote, str]]:
    """Return the prompts: a random sample of the clip art, and every photograph, each in a random scene."""
    rng = Random("foreign base")
    chosen = rng.sample(sorted(clips, key=lambda facts: facts.id), PROMPTS - len(photos)) + photos
    return [(facts, f"{facts.caption} {rng.choice(SCENES).phrase}") for facts in chosen]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    """Build the base, draw 40 prompts, none picked, and write them beside their references into docs/images."""
    build, folder = Path("build/demo"), Path("build/demo/foreign")
    cells = []
    with report_errors():
        fetch(folder)
        clips, photos = list(clip_art(folder)), list(photograph_pairs(folder))
        known = sum(facts.entity.removeprefix("a ").removeprefix("an ") in by_name() for facts, _ in clips)
        console.print(f"{len(clips)} drawings and {len(photos)} photographs; {known} have the name of an entity")
        knowledge_base.write_shards([*clips, *photos], folder / "pairs")
        shutil.rmtree(folder / "kb", ignore_errors=True)
        knowledge_base.index(folder / "pairs", folder / "kb")
        stated = prompts([facts for facts, _ in clips], [facts for facts, _ in photos])
        found_itself = 0
        with serving(build, folder / "kb") as system:
            for seed, (facts, prompt) in enumerate(stated):
                answer = draw(system.generator.url, prompt, SIZE, seed, k=1)
                nothing = Image.new("RGB", (SIZE, SIZE), "white")
                reference = answer.neighbors[0].image if answer.neighbors else nothing
                found_itself += bool(answer.neighbors) and answer.neighbors[0].source == facts.source
                console.print(f"  {prompt}  {answer.seconds:.1f} s")
                cells.append(((reference, answer.image), prompt))
    SHEET.write_bytes(webp(grid(cells, _COLUMNS, _SIDE), _LARGEST_FILE))
    console.print(f"{SHEET}: {len(cells)} images of {SIZE} pixels; the search found {found_itself} by their own pair")


if __name__ == "__main__":
    typer.run(main)
