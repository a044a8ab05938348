"""The demonstration's knowledge base: every entity in four styles, and the scenes, as indexed WebDataset shards.

`python -m reimagen_demo.stack.knowledge_base` builds it with the retriever's own command.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from reimagen_demo.art.entities import Entity, entities
from reimagen_demo.art.icons import STYLES, Art, Style, draw_all
from reimagen_demo.art.images import PAIR_SIDE, PairImages
from reimagen_demo.scenes.registry import SCENES
from reimagen_retriever.knowledge_base.manifest import FORMAT_VERSION

SHARD_PAIRS = 1000
SCENE_IMAGES = 3
"""Number of images of each empty scene."""
_DRAWN_BY = ("art/*.py", "scenes/*.py", "stack/knowledge_base.py")
"""The modules that determine the pairs and their images."""


@dataclass(frozen=True)
class PairNote:
    """The contents of a pair's `.json`: some of img2dataset's columns, and our own."""

    id: str
    """Of equal matches the first in byte order ranks first, so styles are numbered in order of quality."""
    caption: str
    source: str
    """Package, version and icon."""
    license: str
    """SPDX identifier of the license."""
    entity: str
    style: str
    width: int = PAIR_SIDE
    height: int = PAIR_SIDE
    status: str = "success"


def note(art: Art, entity: Entity, style: Style) -> PairNote:
    """Return the facts about an entity's image in one style."""
    return PairNote(
        id=f"{entity.code}.{STYLES.index(style)}-{style.name}",
        caption=entity.phrase,
        source=art.source(entity, style),
        license=style.license,
        entity=entity.name,
        style=style.name,
    )


def pairs(art: Art, chosen: Iterable[Entity]) -> Iterator[tuple[PairNote, bytes]]:
    """Yield every pair of the entities with its image's PNG, then those of the scenes."""
    images = PairImages(art)
    for entity in chosen:
        for style in STYLES:
            yield note(art, entity, style), images.file(entity, style).read_bytes()
    yield from scene_pairs()


def scene_pairs() -> Iterator[tuple[PairNote, bytes]]:
    """Yield the pairs of empty scenes, with their images' PNGs."""
    for scene in SCENES:
        for number in range(SCENE_IMAGES):
            buffer = io.BytesIO()
            scene.render(Random(f"{scene.phrase} {number}"), PAIR_SIDE).save(buffer, "PNG")
            facts = PairNote(
                id=f"scene.{scene.phrase.replace(' ', '-')}.{number}",
                caption=scene.caption,
                source="reimagen_demo.scenes.registry",
                license="Apache-2.0",
                entity="",
                style="scene",
            )
            yield facts, buffer.getvalue()


def write_shards(content: Iterable[tuple[PairNote, bytes]], out_folder: Path) -> None:
    """Write WebDataset shards as img2dataset does, each with its statistics."""
    out_folder.mkdir(parents=True, exist_ok=True)
    for old in out_folder.glob("*.tar"):
        old.unlink()
    everything = list(content)
    for number, first in enumerate(range(0, len(everything), SHARD_PAIRS)):
        chosen = everything[first : first + SHARD_PAIRS]
        with tarfile.open(out_folder / f"{number:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for index, (facts, png) in enumerate(chosen):
                key = f"{number:05d}{index:04d}"
                columns = asdict(facts) | {"key": key, "sha256": hashlib.sha256(png).hexdigest()}
                members = {"png": png, "txt": facts.caption.encode(), "json": json.dumps(columns).encode()}
                for suffix, data in members.items():
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        statistics = {"count": len(chosen), "successes": len(chosen), "failed_to_download": 0}
        (out_folder / f"{number:05d}_stats.json").write_text(json.dumps(statistics))


def build(folder: Path, known: Sequence[Entity] = entities()) -> Path:
    """Install and draw the art, write the shards, and index them with the retriever; return the base's folder.

    A base from the same sources is not rebuilt.

    Args:
        folder: folder of the demonstration's build.
        known: entities in the knowledge base.

    Raises:
        RuntimeError: npm or the retriever's build failed.
    """
    knowledge_base, built_from = folder / "kb", folder / "kb.sources"
    fingerprint = _fingerprint(known)
    if knowledge_base.exists() and built_from.exists() and built_from.read_text() == fingerprint:
        return knowledge_base
    built_from.unlink(missing_ok=True)
    art = Art(folder)
    art.install()
    draw_all(PairImages(art).file, known, processes=os.cpu_count() or 1)
    write_shards(pairs(art, known), folder / "pairs")
    index(folder / "pairs", knowledge_base)
    built_from.write_text(fingerprint)
    return knowledge_base


def index(shards: Path, knowledge_base: Path) -> None:
    """Build the base from the shards with the retriever's command.

    Raises:
        RuntimeError: the command failed; it prints the reason on stderr.
    """
    run_retriever("the knowledge base could not be built", "build", str(shards), str(knowledge_base))


def run_retriever(failure: str, *arguments: str) -> None:
    """Run the retriever's command.

    Raises:
        RuntimeError: the command failed; it prints the reason on stderr. The message begins with `failure`.
    """
    command = [str(Path(sys.executable).with_name("reimagen-retriever")), *arguments]
    if subprocess.run(command, check=False).returncode:
        raise RuntimeError(f"{failure}; run the command by hand to see why: {' '.join(command)}")


def _fingerprint(known: Sequence[Entity]) -> str:
    """Return a hash of all that the base depends on: its format, the entities, the lock, and the drawing code."""
    package = Path(__file__).resolve().parents[1]
    sources = [source for pattern in _DRAWN_BY for source in sorted(package.glob(pattern))]
    sources.append(package.parent / "package-lock.json")
    digest = hashlib.sha256(repr((FORMAT_VERSION, known)).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    build(Path("build/demo"))
