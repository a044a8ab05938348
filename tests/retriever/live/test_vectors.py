"""Pairs added to a base with vectors: found by meaning at once, and like in a base built from the same pairs."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.cli import app
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.folder_lock import Holder
from reimagen_retriever.knowledge_base.manifest import read_manifest
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.live.groups import Rejections
from reimagen_retriever.live.vectors import refuse_without_encoder, with_vectors
from reimagen_retriever.live.writer import LiveWriter, Outcome, Put, Remove
from reimagen_retriever.maintenance.compact import compact
from reimagen_retriever.maintenance.snapshot import restore, snapshot
from reimagen_retriever.maintenance.union import unite
from reimagen_retriever.maintenance.verify import verify
from reimagen_retriever.search import Defaults, Method, Search, find
from reimagen_retriever.service import RetrievalService
from reimagen_retriever.vectors.make import make_vectors
from reimagen_retriever.vectors.precomputed import Of
from tests.waiting import wait_until

MakeBase = Callable[..., Path]
MakeEncoder = Callable[[Mapping[str, Sequence[float]]], Path]
MakeImage = Callable[..., bytes]

TEST = Holder(work="test")
COLORS = {"red": [1.0, -1.0, -1.0], "blue": [-1.0, -1.0, 1.0], "thing": [0.1, 0.2, 0.3], "pink": [1.0, 0.5, 0.6]}
WORDS = {"dog": [1.0, 0.0, 0.1], "hound": [0.9, 0.1, 0.0], "cat": [0.0, 1.0, 0.0], "none": [0.0, 0.0, 0.0]}
QUERIES = ("a red thing", "blue", "pink thing thing", "a thing")
MINIMA: tuple[tuple[Method, float], ...] = (("dense", -1.0), ("hybrid", 0.0))
SECONDS = 60


class Listed:
    def __init__(self, pairs: Mapping[str, SourcePair]) -> None:
        self._pairs = pairs

    def size(self) -> int:
        return len(self._pairs)

    def identity(self) -> Iterator[str]:
        yield from self._pairs

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        yield from list(self._pairs.values())[skip:]

    def left_over(self) -> Iterator[Rejected]:
        return iter(())


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, [str(argument) for argument in arguments])


def add(folder: Path, writer: LiveWriter, *pairs: SourcePair) -> list[Outcome]:
    rejections = Rejections()
    base = KnowledgeBase.open(folder)
    puts = with_vectors(base, [Put(*checked_pair(pair)) for pair in pairs], rejections)
    base.close()
    assert not rejections.count
    return writer.apply(puts)


def found(folder: Path, queries: Sequence[str] = QUERIES, k: int = 16) -> list[list[tuple[str, Any]]]:
    """Return the hits of dense and hybrid searches: ids, with scores at the precision of float16."""
    base = KnowledgeBase.open(folder)
    everything = Filters(keep_duplicates=True)
    hits = [
        find(base, Search(query, k, method=method, minimum_score=least, filters=everything), Defaults("any"))
        for query in queries
        for method, least in MINIMA
    ]
    base.close()
    return [[(hit.pair.id, pytest.approx(hit.score, abs=1e-6)) for hit in each] for each in hits]


def ids(retriever: RetrievalService, query: str, method: Method = "dense", least: float | None = -1.0) -> list[str]:
    search = Search(query, 16, method=method, minimum_score=least)
    return [neighbor.pair.id for neighbor in retriever.search(search).neighbors]


@pytest.fixture(scope="session")
def clip(clip_encoder: MakeEncoder) -> Path:
    return clip_encoder(COLORS)


@pytest.fixture
def words(sentence_encoder: MakeEncoder) -> Path:
    return sentence_encoder(WORDS)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("of", ["images", "texts"])
def test_searches_equal_those_of_a_build_of_the_same_pairs(
    tmp_path: Path, make_image: MakeImage, clip: Path, of: Of, seed: int
) -> None:
    """Several writers in turn add, update and remove in groups; then the base is compacted."""
    rng = random.Random(seed)

    def drawn(identifier: str) -> SourcePair:
        # No two cosines are equal, so that the order is that of neither ids nor rounding.
        image = make_image("#" + rng.randbytes(3).hex())
        return SourcePair("here", identifier, " ".join(rng.choices(list(COLORS), k=5)), image)

    folder = tmp_path / "kb"
    there = {name: drawn(name) for name in ("0", "1", "2")}
    build(Listed(there), folder)
    make_vectors(folder, clip, of)
    for _ in range(4):
        with LiveWriter(folder, TEST) as writer:
            for _ in range(rng.randint(1, 6)):
                identifier = str(rng.randrange(6))
                there.pop(identifier, None)
                if rng.random() < 0.4:
                    writer.apply([Remove(identifier)])
                else:
                    there[identifier] = drawn(identifier)
                    add(folder, writer, there[identifier])
    assert verify(folder)[1] == []
    fresh = folder.with_name("fresh")
    build(Listed(there), fresh)
    make_vectors(fresh, clip, of)
    expected = found(fresh)
    # Lucene's statistics count removed pairs for a while, and a hybrid's order can follow them.
    assert found(folder)[::2] == expected[::2]
    restore(folder, folder.with_name("copy"))
    assert found(folder.with_name("copy")) == found(folder)
    manifest = compact(folder)
    assert manifest.vectors
    assert manifest.vectors.pairs == len(there)
    assert found(folder) == expected
    assert verify(folder)[1] == []


def opened(folder: Path, encoder: Path | None = None) -> RetrievalService:
    retriever = RetrievalService(folder, AnswerCache(None, 1), "entity", encoder=encoder)
    retriever.open()
    return retriever


def test_an_added_image_is_found_by_its_content_at_once(base: MakeBase, clip: Path, make_image: MakeImage) -> None:
    folder = base({"built": "thing"})
    made = make_vectors(folder, clip)
    serving, following = opened(folder), opened(folder)
    before = ids(serving, "red")
    added = serving.add_pairs(
        [
            SourcePair("pairs[0]", "r", "unnamed", make_image("red")),
            SourcePair("pairs[1]", "b", "unnamed", make_image("blue")),
        ]
    )
    assert (added.added, added.rejected_count) == (2, 0)
    assert added.revision != made.revision
    for each in (serving, following):
        assert ids(each, "red")[0] == "r"
        assert set(ids(each, "red")) == {"r", "b", *before}
        assert ids(each, "red", "hybrid", 0.0)[0] == "r"
        assert ids(each, "blue")[0] == "b"
    again = serving.add_pairs([SourcePair("pairs[0]", "r", "unnamed", make_image("red"))])
    assert (again.unchanged, again.revision) == (1, added.revision)
    updated = serving.add_pairs([SourcePair("pairs[0]", "r", "unnamed", make_image("#0000f0"))])
    assert updated.updated == 1
    for each in (serving, following):
        assert ids(each, "blue")[:2] == ["b", "r"]
        assert each.search(Search("red", 1, method="dense", minimum_score=0.9)).neighbors == []
    serving.delete_pairs(["r", "b"])
    for each in (serving, following):
        assert ids(each, "blue") == ["built"]
        each.close()
    assert verify(folder)[1] == []


def test_new_vectors_include_added_pairs(base: MakeBase, clip: Path, words: Path, make_image: MakeImage) -> None:
    folder = base({"built": "a cat"})
    make_vectors(folder, clip)
    serving = opened(folder)
    serving.add_pairs([SourcePair("pairs[0]", "d", "a dog", make_image("red"))])
    assert ids(serving, "red")[0] == "d"
    assert "and 1 of pairs that were added later" in run("describe", folder).stdout
    made = make_vectors(folder, words).vectors
    assert made
    assert made.pairs == 2
    assert "added since" not in run("describe", folder).stdout
    assert ids(serving, "hound")[0] == "d"
    serving.add_pairs([SourcePair("pairs[0]", "h", "a hound", make_image("blue"))])
    assert ids(serving, "hound")[0] == "h"
    serving.close()
    assert verify(folder)[1] == []


def test_adds_wait_for_vectors_of_the_current_base(
    base: MakeBase, clip: Path, words: Path, make_image: MakeImage
) -> None:
    folder = base({"built": "a cat"})
    make_vectors(folder, clip)
    kb = KnowledgeBase.open(folder)
    puts = with_vectors(kb, [Put(*checked_pair(SourcePair("", "d", "a dog", make_image("red"))))], Rejections())
    kb.close()
    make_vectors(folder, words)
    with LiveWriter(folder, TEST) as writer:
        for late in (puts, [Put(puts[0].pair, puts[0].facts)]):
            with pytest.raises(Unavailable, match=r"the pair 'd' or the vectors .* have changed .*send the pair again"):
                writer.apply(late)


def test_pairs_that_cannot_be_encoded_are_reported_with_locations(
    base: MakeBase, words: Path, make_image: MakeImage
) -> None:
    folder = base({"built": "a cat"})
    make_vectors(folder, words)
    serving = opened(folder)
    texts = ("dog", "none", "hound")
    pairs = [SourcePair(f"pairs[{n}]", text, text, make_image(f"#{n}00000")) for n, text in enumerate(texts)]
    added = serving.add_pairs(pairs)
    assert added.added == 2
    assert [(each.location, each.reason) for each in added.rejected] == [("pairs[1]", "cannot be encoded")]
    assert "zero or not finite" in added.rejected[0].detail
    assert set(ids(serving, "dog")) == {"dog", "hound", "built"}
    serving.close()


def test_without_its_encoder_nothing_is_added(
    base: MakeBase, clip: Path, make_image: MakeImage, tmp_path: Path
) -> None:
    folder = base({"a": "thing", "b": "thing"})
    moved = clip.rename(tmp_path / "moved")
    make_vectors(folder, moved)
    moved.rename(clip)
    serving = opened(folder)
    asked: list[int] = []

    def stream() -> Iterator[SourcePair]:
        asked.append(1)
        yield SourcePair("pairs[0]", "r", "thing", make_image("red"))

    with pytest.raises(
        InvalidArgument, match=r"^pairs: this knowledge base has vectors, .*moved is not a folder.*RETRIEVER_ENCODER"
    ):
        serving.add_pairs(stream())
    assert not asked
    assert serving.delete_pairs(["b"]).removed == 1
    serving.close()

    source = tmp_path / "new"
    source.mkdir()
    (source / "r.png").write_bytes(make_image("red"))
    (source / "r.txt").write_text("thing")
    refused = run("add", folder, source)
    assert refused.exit_code == 2
    assert "so each added pair needs one" in refused.stderr
    reported = run("add", folder, source, "--encoder", clip)
    assert reported.exit_code == 0, reported.stderr
    serving = opened(folder, clip)
    assert ids(serving, "red")[0] == "r"
    assert serving.add_pairs(stream()).updated + serving.add_pairs(stream()).unchanged >= 1
    serving.close()


def test_a_base_with_vectors_of_an_unknown_encoder_takes_no_pairs(
    base: MakeBase, words: Path, make_image: MakeImage, tmp_path: Path
) -> None:
    folder = base({"a": "a dog"})
    (tmp_path / "given").mkdir()
    np.save(tmp_path / "given" / "img_emb_0.npy", np.ones((1, 3), np.float16))
    make_vectors(folder, words, "images", tmp_path / "given")
    kb = KnowledgeBase.open(folder)
    with pytest.raises(InvalidArgument, match=r"precomputed vectors of images, .* no vision_model\.onnx .*--given"):
        refuse_without_encoder(kb)
    kb.close()


@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_damage_in_added_vectors_is_reported(base: MakeBase, clip: Path, make_image: MakeImage, damage: str) -> None:
    folder = base({"a": "thing"})
    manifest = make_vectors(folder, clip)
    with LiveWriter(folder, TEST) as writer:
        add(folder, writer, SourcePair("", "r", "thing", make_image("red")))
    assert manifest.vectors
    path = folder / manifest.folder / manifest.vectors.added
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] + (bytes([whole[-1] ^ 1]) if damage == "flipped" else b""))
    result = run("verify", folder)
    assert result.exit_code == 2
    if damage == "flipped":
        assert f"{manifest.vectors.added}, r: its vector is not what was added" in result.stdout
    else:
        assert "is damaged" in result.stderr
        assert path.name in result.stderr


def test_a_pair_without_a_vector_is_reported(base: MakeBase, clip: Path, make_image: MakeImage) -> None:
    folder = base({"a": "thing"})
    with LiveWriter(folder, TEST) as writer:
        add(folder, writer, SourcePair("", "r", "thing", make_image("red")))
    manifest = read_manifest(folder)
    other = base({"a": "thing"}, "other")
    made = make_vectors(other, clip)
    # As left by a program without vectors.
    assert made.vectors
    (other / made.folder / made.vectors.folder).rename(folder / manifest.folder / made.vectors.folder)
    text = json.loads((folder / "manifest.json").read_text()) | {"vectors": made.vectors.model_dump()}
    (folder / "manifest.json").write_text(json.dumps(text))
    (damage,) = verify(folder)[1]
    assert damage.what == "it has no vector; run `vectors` again to rebuild the vectors"
    assert damage.location.endswith(", r")


def test_a_union_finds_what_was_added_to_its_parts(base: MakeBase, clip: Path, make_image: MakeImage) -> None:
    parts = [base({"a": "thing"}, "one"), base({"b": "thing"}, "two")]
    for part, color in zip(parts, ("red", "blue"), strict=True):
        make_vectors(part, clip)
        with LiveWriter(part, TEST) as writer:
            add(part, writer, SourcePair("", color, "thing", make_image(color)))
    unite(parts[0].with_name("all"), parts)
    together = found(parts[0].with_name("all"))
    assert (together[0][0][0], together[2][0][0]) == ("red", "blue")


def test_the_next_writer_truncates_what_a_killed_one_left(base: MakeBase, clip: Path, make_image: MakeImage) -> None:
    folder = base({"a": "thing"})
    manifest = make_vectors(folder, clip)
    with LiveWriter(folder, TEST) as writer:
        add(folder, writer, SourcePair("", "r", "thing", make_image("red")))
    before = found(folder)
    assert manifest.vectors
    with (folder / manifest.folder / manifest.vectors.added).open("ab") as file:
        file.write(b"torn" * 5)
    assert found(folder) == before
    snapshot(folder, folder.with_name("kept"))
    with LiveWriter(folder, TEST) as writer:
        add(folder, writer, SourcePair("", "b", "thing", make_image("blue")))
    for each, count in ((folder, 3), (folder.with_name("kept"), 2)):
        assert verify(each)[1] == []
        assert len(found(each)[0]) == count


def test_another_serving_process_follows_commits(
    base: MakeBase, clip: Path, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = base({"a": "thing"})
    make_vectors(folder, clip)
    following = opened(folder)
    monkeypatch.setattr("reimagen_retriever.live.writer.mark_commit", lambda _: None)
    with LiveWriter(folder, TEST) as writer:
        add(folder, writer, SourcePair("", "r", "thing", make_image("red")))
    wait_until(lambda: ids(following, "red")[0] == "r")
    following.close()
