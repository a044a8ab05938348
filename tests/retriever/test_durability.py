"""A service that is killed again and again while it is written to keeps every change that it has acknowledged.

    REIMAGEN_KILLS=100 python -m pytest tests/retriever/test_durability.py

kills it that often.
"""

import io
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from reimagen.v1 import retrieval_pb2 as pb
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.filters import NO_FILTER, Filters
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.maintenance.compact import compact
from reimagen_retriever.maintenance.snapshot import snapshot
from reimagen_retriever.maintenance.verify import verify
from reimagen_retriever.vectors.make import make_vectors

MakeEncoder = Callable[[Mapping[str, Sequence[float]]], Path]

KILLS = int(os.environ.get("REIMAGEN_KILLS", "2"))
WRITERS = 4
IDS_PER_WRITER = 12
MOST_CALLS = 12
LONGEST = 0.3
"""A service is killed so many seconds, at most, after so many acknowledged calls, at most."""
MOTIFS = 20
WORDS = ("kea", "fox", "red", "snow", "hotel", "leopard", "train", "apple")
QUERIES = ("a kea", "a red fox in the snow", "hotel leopard", "train apple kea snow", "unicorn")

Pair = tuple[str, str, bytes]
"""Text, license and image."""
State = dict[str, Pair]


def picture(rng: random.Random) -> bytes:
    """Return four by four colors of one of a few motifs: many are near-duplicates in other files and sizes."""
    file = io.BytesIO()
    size = (8 * rng.randint(1, 12), 8 * rng.randint(1, 12))
    cells = Image.frombytes("RGB", (4, 4), random.Random(rng.randrange(MOTIFS)).randbytes(4 * 4 * 3))
    cells.resize(size, Image.Resampling.NEAREST).save(file, rng.choice(("PNG", "WEBP")))
    return file.getvalue()


@dataclass
class Writer:
    """A client that alone writes to its ids, one call after the other."""

    name: str
    rng: random.Random
    there: State
    """As acknowledged."""
    asked: State = field(default_factory=dict)
    """As it would be had the call under way been made."""
    calls: int = 0

    def write(self, stub: Any, killed: threading.Event) -> None:
        """Write until the service is gone."""
        self.asked = self.there
        while True:
            ids = self.rng.sample([f"{self.name}/{number}" for number in range(IDS_PER_WRITER)], self.rng.randint(1, 4))
            asked = dict(self.there)
            try:
                if self.rng.random() < 0.4:
                    for identifier in ids:
                        asked.pop(identifier, None)
                    self.asked = asked
                    removed = stub.DeletePairs(pb.DeletePairsRequest(ids=ids))
                    assert removed.removed == len(self.there) - len(asked)
                else:
                    asked |= {identifier: self._pair() for identifier in ids}
                    self.asked = asked
                    added = stub.AddPairs(
                        pb.AddPairsRequest(id=identifier, caption=text, license=license_, image=image)
                        for identifier, (text, license_, image) in asked.items()
                        if identifier in ids
                    )
                    assert (added.added, added.updated) == (
                        len(asked) - len(self.there),
                        len(ids) - len(asked) + len(self.there),
                    )
            except grpc.RpcError:
                if not killed.is_set():
                    raise
                return
            self.there = asked
            self.calls += 1

    def _pair(self) -> Pair:
        text = "a " + " ".join(self.rng.choices(WORDS, k=self.rng.randint(1, 6)))
        return text, self.rng.choice(("", "MIT", "CC0-1.0")), picture(self.rng)


@dataclass(frozen=True)
class Listed:
    pairs: Sequence[SourcePair]

    def size(self) -> int:
        return len(self.pairs)

    def identity(self) -> Iterator[str]:
        yield from (pair.id for pair in self.pairs)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        yield from self.pairs[skip:]

    def left_over(self) -> Iterator[Rejected]:
        return iter(())


def content(folder: Path) -> State:
    """Return all pairs in the order of the shards."""
    base = KnowledgeBase.open(folder)
    pairs = [base.index.pair(document) for document in base.index.in_order()]
    found = {pair.id: (pair.caption, pair.license, base.images.read(pair)) for pair in pairs}
    base.close()
    return found


def marks(folder: Path) -> dict[str, str]:
    """Return the near-duplicate mark of each pair."""
    base = KnowledgeBase.open(folder)
    pairs = [base.index.pair(document) for document in base.index.in_order()]
    base.close()
    return {pair.id: pair.duplicate_of for pair in pairs}


def found(folder: Path, filters: Filters = NO_FILTER) -> list[list[tuple[str, float]]]:
    """Return the hits by words for each of the queries, then by meaning."""
    base = KnowledgeBase.open(folder)
    assert base.dense
    hits = [base.index.search(query, 1_000, 0, "any", filters) for query in QUERIES]
    hits += [base.dense.search(query, 1_000, -1, filters) for query in QUERIES]
    base.close()
    return [[(hit.pair.id, hit.score) for hit in each] for each in hits]


def check_equals_a_fresh_base(folder: Path, state: Mapping[str, Pair], encoder: Path, scratch: Path) -> None:
    """Check that searches equal those of a base built from the same pairs; after compacting, also the scores."""
    pairs = [SourcePair("", identifier, text, image, "", name) for identifier, (text, name, image) in state.items()]
    fresh = build(Listed(pairs), scratch / "fresh").manifest
    make_vectors(scratch / "fresh", encoder)
    assert marks(folder) == marks(scratch / "fresh")
    expected = found(scratch / "fresh")
    # Lucene's statistics count removed pairs for a while, which moves scores, not what is found.
    every = Filters(keep_duplicates=True)
    by_words, by_words_there = (found(each, every)[: len(QUERIES)] for each in (folder, scratch / "fresh"))
    assert [{name for name, _ in hits} for hits in by_words] == [{name for name, _ in hits} for hits in by_words_there]
    by_meaning, by_meaning_there = (each[len(QUERIES) :] for each in (found(folder), expected))
    for hits, there in zip(by_meaning, by_meaning_there, strict=True):
        # FAISS and NumPy round differently, depending on the processor.
        assert dict(hits) == pytest.approx(dict(there), abs=1e-6)
    snapshot(folder, scratch / "compacted")
    assert compact(scratch / "compacted").revision == fresh.revision
    assert found(scratch / "compacted") == expected
    assert any(expected)


def test_no_acknowledged_change_is_lost_when_the_service_is_killed(
    tmp_path: Path, serve: Callable[..., AbstractContextManager[Any]], sentence_encoder: MakeEncoder
) -> None:
    rng = random.Random(f"durability {KILLS}")
    folder = tmp_path / "kb"
    build(Listed([SourcePair("", "built", "a kea of the build", picture(rng), "", "MIT")]), folder)
    encoder = sentence_encoder({"a": [0.1, 0.1], **{word: [rng.random(), rng.random()] for word in WORDS}})
    make_vectors(folder, encoder)
    writers = [Writer(f"w{number}", random.Random(f"{number}"), {}) for number in range(WRITERS)]
    state = content(folder)
    for _ in range(KILLS):
        with serve(folder) as service, ThreadPoolExecutor(WRITERS) as pool:
            for identifier, (text, license_, image) in state.items():
                pair = service.stub.GetPair(pb.GetPairRequest(id=identifier))
                assert (pair.caption, pair.license, pair.image) == (text, license_, image)
            assert service.stub.Describe(pb.DescribeRequest()).pairs == len(state)
            killed = threading.Event()
            writing = [pool.submit(writer.write, service.stub, killed) for writer in writers]
            last = sum(writer.calls for writer in writers) + rng.randint(1, MOST_CALLS)
            while sum(writer.calls for writer in writers) < last and not any(each.done() for each in writing):
                killed.wait(0.005)
            killed.wait(rng.uniform(0, LONGEST))
            killed.set()
            service.process.send_signal(signal.SIGKILL)
            for future in writing:
                future.result()
        state = content(folder)
        for writer in writers:
            mine = {name: pair for name, pair in state.items() if name.startswith(f"{writer.name}/")}
            assert mine in (writer.there, writer.asked)
            writer.there = mine
        assert len(state) == 1 + sum(len(writer.there) for writer in writers)
        assert verify(folder)[1] == []
        check_equals_a_fresh_base(folder, state, encoder, tmp_path / "scratch")
        shutil.rmtree(tmp_path / "scratch")
    assert sum(writer.calls for writer in writers) >= KILLS
