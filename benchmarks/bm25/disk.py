"""The bytes that a pair takes in the index, by Lucene's types of files; beside Pyserini's index of the same captions.

The pairs of one index have neither source nor license. Those of another have a made-up address as their source, on one
of 2,000 hosts, and one of five licenses. What a pair takes beside its caption's own index is the difference from
Pyserini's index, which stores ids and captions.

    python -m benchmarks.bm25.disk [CAPTIONS]
"""

import random
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from benchmarks.bm25.engines import Ours, pair
from benchmarks.bm25.texts import words, write_captions
from benchmarks.bm25.worker import Worker
from reimagen_retriever.index.writer import IndexWriter

CAPTIONS = 100_000
HOSTS = 2_000
LICENSES = ("CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "MIT", "")
MEANING = {
    "dvd": "doc values: records, ids, sources, licenses",
    "doc": "postings: documents and frequencies",
    "tim": "dictionaries of terms, with ids and sources if indexed",
    "fdt": "stored fields: ids",
    "nvd": "lengths of captions",
}


class WithSources(Ours):
    """Our index of pairs with sources and licenses."""

    @staticmethod
    @override
    def build(captions: Path, folder: Path) -> None:
        rng = random.Random(0)  # noqa: S311
        hosts = words()[:HOSTS]
        with IndexWriter(folder) as writer, captions.open() as lines:
            for number, line in enumerate(lines):
                caption = line.rstrip("\n")
                name = "-".join(caption.split()[:4])
                dated = f"{rng.randint(2008, 2024)}/{rng.randint(1, 12):02d}"
                source = f"https://www.{rng.choice(hosts)}.com/wp-content/uploads/{dated}/{name}-{number}.jpg"
                facts = {"source": source, "license": rng.choice(LICENSES)}
                writer.add(pair(number, caption).model_copy(update=facts))
            writer.merge()
            writer.commit({})


def files(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield each file of the index and its bytes, also those inside of compound files."""
    for file in folder.iterdir():
        if file.suffix == ".cfe":
            yield from _entries(file.read_bytes())
        elif file.suffix != ".cfs":
            yield file.name, file.stat().st_size


def _entries(table: bytes) -> Iterator[tuple[str, int]]:
    """Yield the names and lengths in Lucene's table of a compound file (`Lucene90CompoundFormat`)."""
    position = 4

    def text() -> str:
        nonlocal position
        length = number()
        position += length
        return table[position - length : position].decode()

    def number() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = table[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    text()  # the codec
    position += 20  # the version and the segment's id
    text()  # a suffix
    for _ in range(number()):
        name = text()
        _, length = struct.unpack_from("<qq", table, position)
        position += 16
        yield name, length


def main(captions: int) -> None:
    """Build the indexes, and print the table."""
    print(f"Bytes a pair in the index, {captions:,} captions")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_captions(folder / "captions.txt", captions)
        WithSources.build(folder / "captions.txt", folder / "sources")
        Ours.build(folder / "captions.txt", folder / "ours")
        with Worker("pyserini", folder / "pyserini") as worker:
            worker.build(folder / "captions.txt")
        by_type = {name: Counter[str]() for name in ("ours", "sources", "pyserini")}
        for name, counted in by_type.items():
            for file, size in files(folder / name):
                counted[file.rpartition(".")[2]] += size
    print(f"{'file':6}{'plain':>9}{'sourced':>9}{'pyserini':>9}")
    for kind in sorted(MEANING, key=lambda kind: -by_type["sources"][kind]):
        print(f"{kind:6}" + "".join(f"{its[kind] / captions:9.1f}" for its in by_type.values()) + f"  {MEANING[kind]}")
    totals = {name: its.total() / captions for name, its in by_type.items()}
    print(f"{'all':6}" + "".join(f"{total:9.1f}" for total in totals.values()))
    plain, sourced = totals["ours"] - totals["pyserini"], totals["sources"] - totals["pyserini"]
    print(f"beside the caption's own index: {plain:.0f} without source and license, {sourced:.0f} with both")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CAPTIONS)
