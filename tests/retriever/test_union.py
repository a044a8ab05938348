"""Unions of several bases, against one base of all their pairs."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from reimagen_common.errors import InvalidArgument, NotFound, ReimagenError
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.cli import app
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.ingest.build import BuildOptions, build
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.folder_lock import Holder
from reimagen_retriever.knowledge_base.pair import SourcePair
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.live.writer import LiveWriter, Put, Remove
from reimagen_retriever.maintenance.snapshot import restore, snapshot
from reimagen_retriever.maintenance.union import unite
from reimagen_retriever.maintenance.verify import verify
from reimagen_retriever.neighbors.captions import read_captions
from reimagen_retriever.neighbors.ranking import Ranking
from reimagen_retriever.search import Defaults, Search, explain, find
from reimagen_retriever.service import RetrievalService
from reimagen_retriever.vectors.make import make_vectors

MakeBase = Callable[..., Path]
MakeImage = Callable[..., bytes]
MakeEncoder = Callable[..., Path]
Row = dict[str, str]

WORDS = ("red", "green", "golden", "tiny", "snow", "panda", "fox", "leopard", "train", "hotel", "kea", "rocket")
PAIRS = 300
PARTS = 3
NO_FILTER = Defaults("any", -1)


def rows() -> list[Row]:
    """Return rows with distinct words, so that vectors differ; BM25 scores are often equal."""
    rng = random.Random(0)
    words = [chosen for count in range(1, 6) for chosen in combinations(WORDS, count)]
    return [
        {
            "file_name": f"{number:03d}.png",
            "id": f"pair/{number:03d}",
            "text": "a " + " ".join(text),
            "license": rng.choice(["MIT", "CC0-1.0", ""]),
            "source": f"https://{rng.choice('ab')}.example.org/{number}",
        }
        for number, text in enumerate(rng.sample(words, PAIRS))
    ]


def built(folder: Path, chosen: Sequence[Row], analysis: Analysis | None = None) -> Path:
    source = folder.with_name(f"{folder.name}-source")
    source.mkdir(parents=True)
    for row in chosen:
        number = int(row["id"][-3:])
        pixels = np.random.default_rng(number).integers(0, 256, (24 + number % 9, 32, 3), np.uint8)
        Image.fromarray(pixels).save(source / row["file_name"])
    (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
    build(open_source(source), folder, BuildOptions(analysis=analysis or Analysis()))
    shutil.rmtree(source)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, sentence_encoder: MakeEncoder) -> tuple[Path, Path]:
    """Build a base of all pairs and a union of three, one much smaller than the others; all have vectors."""
    root = tmp_path_factory.mktemp("union")
    rng = random.Random(1)
    owners = [min(int(rng.expovariate(1)), PARTS - 1) for _ in range(PAIRS)]
    parts = [
        built(root / f"part-{part}", [row for row, owner in zip(rows(), owners, strict=True) if owner == part])
        for part in range(PARTS)
    ]
    whole = built(root / "whole", rows())
    generator = np.random.default_rng(2)
    encoder = sentence_encoder({word: generator.standard_normal(8).tolist() for word in WORDS})
    for folder in (*parts, whole):
        make_vectors(folder, encoder)
    unite(root / "union", parts)
    return whole, root / "union"


@pytest.fixture(scope="module")
def bases(folders: tuple[Path, Path]) -> Iterator[tuple[KnowledgeBase, KnowledgeBase]]:
    opened = [KnowledgeBase.open(folder) for folder in folders]
    yield opened[0], opened[1]
    for base in opened:
        base.close()


queries = st.lists(st.sampled_from([*WORDS, "a", "unicorn", "Pandas"]), min_size=1, max_size=8).map(" ".join)
any_filters = st.builds(
    Filters,
    licenses=st.sampled_from([(), ("MIT",), ("", "CC0-1.0")]),
    sources=st.sampled_from([(), ("https://a.",)]),
    minimum_side=st.sampled_from([0, 28]),
    exclude_ids=st.lists(st.integers(0, PAIRS - 1).map("pair/{:03d}".format), max_size=60).map(tuple),
    keep_duplicates=st.booleans(),
)


def same(mine: Hit, theirs: Hit) -> None:
    """Return whether two pairs are equal except for the location of the image."""
    place = {"shard": theirs.pair.shard, "offset": theirs.pair.offset}
    assert mine.pair.model_copy(update=place) == theirs.pair
    assert mine.score == pytest.approx(theirs.score, rel=1e-6)
    assert replace(mine, pair=theirs.pair, score=theirs.score, cosine=None) == replace(theirs, cosine=None)
    assert mine.cosine == pytest.approx(theirs.cosine, abs=1e-6)


@settings(deadline=None, max_examples=150)
@given(queries, st.integers(1, 16), any_filters, st.sampled_from(["bm25", "dense", "hybrid"]), st.booleans())
def test_a_union_finds_the_same_as_one_base_of_all_pairs(
    bases: tuple[KnowledgeBase, KnowledgeBase], query: str, k: int, filters: Filters, method: str, more: bool
) -> None:
    search = Search(query, k, filters=filters, method=method, per_entity=more and method == "bm25")  # type: ignore[arg-type]
    whole, union = bases
    defaults = Defaults("entity" if more else "any", 0.2 if more else -1)
    expected, found = find(whole, search, defaults), find(union, search, defaults)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        same(mine, theirs)
        assert union.images.read(mine.pair) == whole.images.read(theirs.pair)
        why, why_theirs = explain(union, search, mine), explain(whole, search, theirs)
        assert (why.named, why.terms) == (why_theirs.named, why_theirs.terms)


def test_neighbors_of_a_union_equal_those_of_one_base(bases: tuple[KnowledgeBase, KnowledgeBase]) -> None:
    whole, union = bases
    asked = [row["text"] for row in rows()[:40]]
    with ThreadPoolExecutor(2) as pool:
        found = [
            Ranking(read_captions(base.index, base.index.in_order()), base.index, pool).search(asked, 5, "entity")
            for base in (union, whole)
        ]
    for mine, theirs in zip(*found, strict=True):
        assert [(hit.pair.id, hit.score) for hit in mine] == [(hit.pair.id, hit.score) for hit in theirs]
    in_order = [union.index.pair(document) for document in union.index.in_order()]
    assert [(pair.shard, pair.offset) for pair in in_order] == sorted((pair.shard, pair.offset) for pair in in_order)
    assert sorted(pair.id for pair in in_order) == [row["id"] for row in rows()]
    assert union.index.get("pair/007") in in_order


def test_a_union_describes_itself(bases: tuple[KnowledgeBase, KnowledgeBase], folders: tuple[Path, Path]) -> None:
    whole, union = (base.manifest for base in bases)
    assert (union.pairs, union.licenses) == (whole.pairs, whole.licenses)
    assert union.vectors
    assert (union.vectors.pairs, union.vectors.dimension) == (PAIRS, 8)
    assert sum(shard.pairs for shard in union.shards) == PAIRS
    reported = run("describe", folders[1])
    assert reported.exit_code == 0, reported.output
    assert "300 pairs" in reported.output
    assert "vectors of 300 texts" in reported.output
    assert "pair/" in run("search", folders[1], "a golden kea").output


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def change(folder: Path, *changes: Put | Remove) -> None:
    with LiveWriter(folder, Holder(work="test")) as writer:
        writer.apply(changes)


def put(identifier: str, text: str, image: bytes) -> Put:
    return Put(*checked_pair(SourcePair("here", identifier, text, image)))


def ids(base: Path, query: str) -> list[str]:
    opened = KnowledgeBase.open(base)
    found = [hit.pair.id for hit in find(opened, Search(query, 16), NO_FILTER)]
    opened.close()
    return found


def test_parts_with_relative_paths_move_with_the_union(base: MakeBase, tmp_path: Path) -> None:
    base({"f": "a fox"}, "one/f")
    base({"k": "a kea"}, "one/k")
    union, *parts = (Path(os.path.relpath(tmp_path / "one" / name)) for name in ("both", "f", "k"))
    result = run("union", union, *parts)
    assert (result.exit_code, result.output.partition(", revision")[0]) == (0, f"{union}: 2 knowledge bases, 2 pairs")
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    assert ids(tmp_path / "elsewhere" / "both", "a kea and a fox") == ["f", "k"]


def test_a_service_follows_a_new_version_of_its_union(base: MakeBase, tmp_path: Path, make_image: MakeImage) -> None:
    parts = [base({"f": "a fox"}, "f"), base({"k": "a kea"}, "k")]
    union = tmp_path / "union"
    unite(union, parts)
    serving = RetrievalService(union, AnswerCache(None, 1), "entity")
    serving.open()
    first = serving.search(Search("kea"))
    assert [found.pair.id for found in first.neighbors] == ["k"]
    assert first.neighbors[0].image.startswith(b"\x89PNG")
    change(parts[0], put("l", "a kea in the snow", make_image("navy")))
    assert serving.search(Search("kea")) == first
    unite(union, parts)
    second = serving.search(Search("kea"))
    assert [found.pair.id for found in second.neighbors] == ["k", "l"]
    assert second.revision != first.revision
    # The same parts in another order are the same pairs at other positions.
    assert unite(union, parts[::-1]).revision != second.revision
    assert serving.degraded_reasons() == []
    serving.close()


def test_a_union_is_read_only(base: MakeBase, tmp_path: Path, make_image: MakeImage) -> None:
    parts = [base({"f": "a fox"}, "f"), base({"k": "a kea"}, "k")]
    union = tmp_path / "union"
    unite(union, parts)
    serving = RetrievalService(union, AnswerCache(None, 1), "entity")
    serving.open()
    said = rf"is a union, which is read-only.*{parts[0]}.*reimagen-retriever union {union} {parts[0]} {parts[1]}"
    with pytest.raises(InvalidArgument, match=said):
        serving.add_pairs([SourcePair("pairs[0]", "n", "a newt", make_image())])
    with pytest.raises(InvalidArgument, match=said):
        serving.delete_pairs(["f"])
    serving.close()
    for command in (("remove", union, "f"), ("compact", union)):
        result = run(*command)
        assert result.exit_code != 0
        assert "is a union, which is read-only" in result.output
    with pytest.raises(InvalidArgument, match="is read-only"):
        make_vectors(union, tmp_path)
    assert ids(union, "a kea and a fox") == ["f", "k"]


def with_motifs(folder: Path, motifs: Mapping[str, int]) -> Path:
    """Build a base of images of a few motifs, each in one of a few sizes."""
    source = folder.with_name(f"{folder.name}-source")
    source.mkdir()
    for name, motif in motifs.items():
        number = int(name[-1])
        cells = Image.frombytes("RGB", (4, 4), random.Random(motif).randbytes(48))
        cells.resize((32 + 8 * number, 32 + 8 * number), Image.Resampling.NEAREST).save(source / f"{name}.png")
        (source / f"{name}.txt").write_text(f"a {WORDS[number]} kea")
    build(open_source(source), folder)
    return folder


def marks(folder: Path) -> dict[str, str]:
    base = KnowledgeBase.open(folder)
    pairs = base.index.read(base.index.in_order())
    base.close()
    return {pair.id: pair.duplicate_of for pair in pairs}


def test_near_duplicates_across_bases_are_shown_once(tmp_path: Path) -> None:
    rng = random.Random(3)
    motifs = [{f"{part}-{number}": rng.randrange(9) for number in range(8)} for part in range(PARTS)]
    parts = [with_motifs(tmp_path / f"part-{part}", each) for part, each in enumerate(motifs)]
    whole = with_motifs(tmp_path / "whole", {name: motif for each in motifs for name, motif in each.items()})
    union, apart = tmp_path / "union", tmp_path / "apart"
    manifest = unite(union, parts)
    base = KnowledgeBase.open(union)
    base.close()
    assert base.manifest == manifest
    assert marks(union) == marks(whole)
    within = {name: original for part in parts for name, original in marks(part).items()}
    assert len(ids(union, "a kea")) == len({motif for each in motifs for motif in each.values()})
    result = run("union", apart, *parts, "--no-near-duplicates")
    assert result.exit_code == 0
    assert manifest.revision not in result.output
    assert "near-duplicates" not in result.output
    result = run("union", tmp_path / "told", *parts)
    across = sum(not within and bool(now) for within, now in zip(within.values(), marks(whole).values(), strict=True))
    assert (
        f"revision {manifest.revision}\n  {across:,} pairs marked as near-duplicates of pairs in other bases"
        in result.output
    )
    assert marks(apart) == within != marks(union)

    # A snapshot has the same marks, or those of the changed parts; so does the new union.
    snapshot(union, tmp_path / "kept")
    assert marks(tmp_path / "kept") == marks(whole)
    change(parts[0], Remove("0-0"))
    change(parts[2], Remove("2-7"))
    assert marks(union) == {name: original for part in parts for name, original in marks(part).items()}
    left = {name: motif for each in motifs for name, motif in each.items() if name not in {"0-0", "2-7"}}
    expected = marks(with_motifs(tmp_path / "left", left))
    snapshot(union, tmp_path / "later")
    unite(union, parts)
    assert marks(tmp_path / "later") == marks(union) == expected


def test_a_union_is_verified_part_by_part(base: MakeBase, tmp_path: Path) -> None:
    parts = [base({"f": "a fox"}, "f"), base({"k": "a kea"}, "k")]
    union = tmp_path / "union"
    revision = unite(union, parts).revision
    result = run("verify", union)
    assert (result.exit_code, result.stdout) == (
        0,
        f"{union}: 2 pairs of revision {revision}, all is as it was written\n",
    )
    (shard,) = parts[1].glob("data-*/shards/00000.tar")
    with shard.open("r+b") as file:
        file.write(b"x" * 512)
    result = run("verify", union)
    assert result.exit_code == 2
    assert result.stdout.startswith(f"{parts[1]}, 00000.tar: is not a complete tar file")


def test_a_snapshot_of_a_union_includes_its_parts(base: MakeBase, tmp_path: Path, make_image: MakeImage) -> None:
    parts = [base({"f": "a fox"}, "f"), base({"k": "a kea"}, "k")]
    union, kept = tmp_path / "union", tmp_path / "kept"
    unite(union, parts)
    change(parts[1], put("l", "a kea in the snow", make_image("navy")))
    manifest = snapshot(union, kept)
    change(parts[0], Remove("f"))
    shutil.rmtree(parts[1])
    kept.rename(tmp_path / "moved")
    assert ids(tmp_path / "moved", "a kea and a fox") == ["f", "k", "l"]
    now, damages = verify(tmp_path / "moved")
    assert (now, damages) == (manifest, [])
    with pytest.raises(InvalidArgument, match=r"SNAPSHOT: .*/moved is a snapshot of a union: serve it in place"):
        restore(tmp_path / "moved", tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def test_an_id_in_two_parts_is_refused_by_its_name(base: MakeBase, tmp_path: Path, make_image: MakeImage) -> None:
    parts = [base(dict.fromkeys("abc", "a fox"), "abc"), base(dict.fromkeys("def", "a fox"), "def")]
    union = tmp_path / "union"
    unite(union, parts)
    change(parts[1], put("b", "a kea", make_image()))
    for opening in (lambda: unite(union, parts), lambda: KnowledgeBase.open(union)):
        with pytest.raises(InvalidArgument, match=rf"the id 'b' exists in {parts[0]} and {parts[1]}"):
            opening()
    # An id removed in one part is free for another; an update is not a second pair.
    change(parts[0], Remove("b"), put("c", "a red fox", make_image("red")))
    assert ids(union, "kea") == ["b"]
    assert unite(union, parts).pairs == 6


def test_incompatible_parts_are_refused(base: MakeBase, tmp_path: Path) -> None:
    fox, kea = base({"f": "a fox"}, "f"), base({"k": "a kea"}, "k")
    union, new = tmp_path / "union", tmp_path / "new"
    unite(union, [fox, kea])
    german = built(tmp_path / "german", rows()[:2], Analysis(language="de"))
    with pytest.raises(InvalidArgument, match=f"{fox} and {german} cannot be searched as one.*language='de'"):
        unite(new, [fox, german])
    with pytest.raises(InvalidArgument, match=f"{union} is itself a union: name its parts instead"):
        unite(new, [fox, union])
    with pytest.raises(InvalidArgument, match="PART: must be two or more, got 1"):
        unite(new, [fox])
    with pytest.raises(NotFound, match="is not a complete knowledge base"):
        unite(new, [fox, tmp_path / "nothing"])
    with pytest.raises(InvalidArgument, match=f"{kea} is a knowledge base"):
        unite(kea, [fox, german])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(InvalidArgument, match="has other files than a knowledge base"):
        unite(tmp_path / "mine", [fox, kea])
    assert not new.exists()
    next((kea / KnowledgeBase.open(kea).manifest.shards_folder).glob("*.tar")).unlink()
    with pytest.raises(ReimagenError, match=f"{kea} is damaged"):
        KnowledgeBase.open(union)


def test_vectors_of_only_some_parts_or_of_two_encoders_are_not_used(
    base: MakeBase, tmp_path: Path, sentence_encoder: MakeEncoder
) -> None:
    parts = [base({"f": "a fox"}, "f"), base({"k": "a kea"}, "k")]
    encoders = [sentence_encoder({"fox": [1, number], "kea": [number, 1]}) for number in (0, 0.5)]
    for part, encoder in zip(parts, encoders, strict=True):
        make_vectors(part, encoder)
        assert unite(tmp_path / "union", parts).vectors is None
        opened = KnowledgeBase.open(tmp_path / "union")
        with pytest.raises(InvalidArgument, match="method: this knowledge base has no vectors"):
            find(opened, Search("fox", method="dense"), NO_FILTER)
        opened.close()
    make_vectors(parts[1], encoders[0])
    assert unite(tmp_path / "union", parts).vectors
