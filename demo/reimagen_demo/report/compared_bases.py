"""The knowledge bases that the results compare with the demonstration's own."""

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from reimagen_demo.art.entities import entities
from reimagen_demo.art.icons import STYLES, Art
from reimagen_demo.stack import encoder, knowledge_base


def with_vectors(folder: Path) -> Path:
    """Build a copy of the demonstration's knowledge base with vectors for dense search, and return its folder.

    Raises:
        RuntimeError: the retriever's command failed; it prints the reason on stderr.
    """
    own, base, built_from = knowledge_base.build(folder), folder / "vectors" / "kb", folder / "vectors" / "kb.sources"
    sources = (folder / "kb.sources").read_text()
    if built_from.exists() and built_from.read_text() == sources:
        return base
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(own, base)
    model = str(encoder.build(folder))
    knowledge_base.run_retriever("the vectors could not be made", "vectors", str(base), "--encoder", model)
    built_from.write_text(sources)
    return base


def sketches(folder: Path) -> Path:
    """Build a knowledge base of pencil sketches, one of each entity in the first style, and return its folder."""
    base, sketched = folder / "sketches" / "kb", folder / "sketches" / "pairs"
    sources, built_from = (folder / "kb.sources").read_text(), folder / "sketches" / "kb.sources"
    if base.exists() and built_from.exists() and built_from.read_text() == sources:
        return base
    art = Art(folder)
    pairs = []
    for facts, png in knowledge_base.pairs(art, entities()):
        if facts.style == STYLES[0].name:
            buffer = io.BytesIO()
            sketch(png).save(buffer, "PNG")
            pairs.append((facts, buffer.getvalue()))
    knowledge_base.write_shards(pairs, sketched)
    knowledge_base.index(sketched, base)
    built_from.write_text(sources)
    return base


def sketch(png: bytes) -> Image.Image:
    """Return an image as a pencil sketch: outlines and shades without color, by a dodge of the image with its blur."""
    with Image.open(io.BytesIO(png)) as opened:
        gray = ImageOps.grayscale(opened.convert("RGB"))
    shades = np.asarray(gray, np.float64)
    blurred = np.asarray(gray.filter(ImageFilter.GaussianBlur(4)), np.float64)
    return Image.fromarray((shades * 255 / np.maximum(blurred, 1.0)).clip(0, 255).astype(np.uint8)).convert("RGB")
