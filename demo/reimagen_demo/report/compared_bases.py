"""The knowledge bases that results compare the demonstration's own with."""

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from reimagen_demo.art.entities import entities
from reimagen_demo.art.icons import STYLES, Art
from reimagen_demo.stack import encoder, knowledge_base


def with_vectors(folder: Path) -> Path:
    """The demonstration's knowledge base again, to be searched by meaning too.

    Raises:
        RuntimeError: the retriever's command failed, and has told why on stderr.
    """
    own, base, built_from = knowledge_base.build(folder), folder / "vectors" / "kb", folder / "vectors" / "kb.sources"
    sources = (folder / "kb.sources").read_text()
    if built_from.exists() and built_from.read_text() == sources:
        return base
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(own, base)
    made_by = str(encoder.build(folder))
    knowledge_base.run_retriever("the vectors could not be made", "vectors", str(base), "--encoder", made_by)
    built_from.write_text(sources)
    return base


def sketches(folder: Path) -> Path:
    """A knowledge base of the same entities as pencil sketches: one of each, of its drawing in the first style."""
    base, sketched = folder / "sketches" / "kb", folder / "sketches" / "pairs"
    sources, built_from = (folder / "kb.sources").read_text(), folder / "sketches" / "kb.sources"
    if base.exists() and built_from.exists() and built_from.read_text() == sources:
        return base
    art = Art(folder)
    pairs = []
    for told, png in knowledge_base.pairs(art, entities()):
        if told.style == STYLES[0].name:
            buffer = io.BytesIO()
            sketch(png).save(buffer, "PNG")
            pairs.append((told, buffer.getvalue()))
    knowledge_base.write_shards(pairs, sketched)
    knowledge_base.index(sketched, base)
    built_from.write_text(sources)
    return base


def sketch(png: bytes) -> Image.Image:
    """An image as a pencil draws it: its outlines and shades, without color (a dodge of the image by its blur)."""
    with Image.open(io.BytesIO(png)) as opened:
        gray = ImageOps.grayscale(opened.convert("RGB"))
    shades = np.asarray(gray, np.float64)
    blurred = np.asarray(gray.filter(ImageFilter.GaussianBlur(4)), np.float64)
    return Image.fromarray((shades * 255 / np.maximum(blurred, 1.0)).clip(0, 255).astype(np.uint8)).convert("RGB")
