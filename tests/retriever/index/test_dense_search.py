from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.dense import DenseWriter
from reimagen_retriever.index.dense_search import DenseSearcher
from reimagen_retriever.index.encoder import Encoder
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.manifest import Vectors
from reimagen_retriever.knowledge_base.pair import StoredPair

MakeEncoder = Callable[[Mapping[str, Sequence[float]]], Path]

PAIRS = 2_400
THINGS = tuple(f"thing{number}" for number in range(40))
NO_FILTER = Filters(keep_duplicates=True)


@cache
def pairs() -> list[StoredPair]:
    """Return pairs; few have the license RARE, and 1 in 3 is a near-duplicate of an earlier one."""
    rng = np.random.default_rng(0)
    return [
        StoredPair(
            id=f"{number:05d}",
            caption=" ".join(rng.choice(THINGS, 4)),
            shard="00000.tar",
            offset=0,
            length=1,
            sha256="0" * 64,
            media_type="image/png",
            width=64,
            height=int(rng.choice((16, 64))),
            license="RARE" if number % 300 == 7 else "COMMON",
            duplicate_of=f"{number - 1:05d}" if number % 3 == 1 else "",
        )
        for number in range(PAIRS)
    ]


@pytest.fixture(scope="module")
def encoder(sentence_encoder: MakeEncoder) -> Path:
    rng = np.random.default_rng(1)
    return sentence_encoder({thing: rng.standard_normal(8).tolist() for thing in THINGS})


@pytest.fixture(scope="module")
def bm25(tmp_path_factory: pytest.TempPathFactory) -> BM25Index:
    folder = tmp_path_factory.mktemp("lucene")
    with IndexWriter(folder) as writer:
        for pair in pairs():
            writer.add(pair)
        writer.commit({})
    return BM25Index(folder)


@pytest.fixture(scope="module", params=["flat", "hnsw"])
def searcher(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bm25: BM25Index, encoder: Path
) -> DenseSearcher:
    opened = Encoder(encoder)
    folder = tmp_path_factory.mktemp(request.param) / "vectors"
    writer = DenseWriter(folder, PAIRS, opened.dimension)
    writer.add(opened.texts([pair.caption for pair in pairs()], "document"))
    writer.finish(request.param, [pair.id for pair in pairs()])
    vectors = Vectors(
        folder="vectors-0",
        of="texts",
        kind=request.param,
        pairs=PAIRS,
        dimension=opened.dimension,
        encoder=str(encoder),
        encoder_digest=opened.digest,
        minimum_cosine=0.5,
    )
    return DenseSearcher(bm25, vectors, folder)


@pytest.fixture(scope="module")
def opened(encoder: Path) -> Encoder:
    return Encoder(encoder)


@pytest.fixture(scope="module")
def all_vectors(opened: Encoder) -> np.ndarray:
    return opened.texts([pair.caption for pair in pairs()], "document").astype(np.float16).astype(np.float32)


def passes(pair: StoredPair, filters: Filters) -> bool:
    return (
        (not filters.licenses or pair.license in filters.licenses)
        and min(pair.width, pair.height) >= filters.minimum_side
        and pair.id not in filters.exclude_ids
    )


def brute_force(encoder: Encoder, vectors: np.ndarray, query: str, filters: Filters) -> dict[str, float]:
    """Return the best cosine of each group of near-duplicates among the pairs that pass, best first."""
    cosines = vectors @ encoder.texts([query], "query")[0]
    found: dict[str, float] = {}
    for row in np.argsort(-cosines, kind="stable"):
        pair = pairs()[row]
        if passes(pair, filters):
            found.setdefault(pair.id if filters.keep_duplicates else pair.duplicate_of or pair.id, float(cosines[row]))
    return found


queries = st.lists(st.sampled_from(THINGS), min_size=1, max_size=4).map(" ".join)
any_filters = st.builds(
    Filters,
    licenses=st.sampled_from([(), ("RARE",), ("COMMON",), ("RARE", "COMMON"), ("NONE",)]),
    minimum_side=st.sampled_from([0, 16, 32, 65]),
    exclude_ids=st.lists(st.integers(0, PAIRS).map("{:05d}".format), max_size=300).map(tuple),
    keep_duplicates=st.booleans(),
)


@settings(deadline=None, max_examples=30)
@given(queries, any_filters, st.integers(1, 16))
def test_it_equals_comparing_with_all_that_pass_the_filter(
    searcher: DenseSearcher, opened: Encoder, all_vectors: np.ndarray, query: str, filters: Filters, k: int
) -> None:
    expected = brute_force(opened, all_vectors, query, filters)
    hits = searcher.search(query, k, -1.0, filters)
    assert len(hits) == min(k, len(expected))
    assert [hit.score for hit in hits] == pytest.approx(list(expected.values())[:k], abs=1e-5)
    assert all(passes(hit.pair, filters) for hit in hits)
    assert all(hit.score == hit.cosine for hit in hits)
    assert len({filters.group(hit.pair) for hit in hits}) == len(hits)


def test_a_filter_that_no_near_vector_passes_is_searched_exhaustively(searcher: DenseSearcher, bm25: BM25Index) -> None:
    nearest = searcher.search("thing3", 500, -1.0, NO_FILTER)
    rare = searcher.search("thing3", 16, -1.0, Filters(licenses=("RARE",), keep_duplicates=True))
    assert {hit.pair.id for hit in rare} == {pair.id for pair in pairs() if pair.license == "RARE"}
    assert rare[-1].score < nearest[-1].score
    # Too many pass for exhaustive comparison, and the nearest do not pass.
    excluded = tuple(hit.pair.id for hit in nearest)
    rest = searcher.search("thing3", 4, -1.0, Filters(exclude_ids=excluded, keep_duplicates=True))
    assert bm25.ids_of(Filters(exclude_ids=excluded[:300]), 2_000) is None
    assert rest[0].score == pytest.approx(nearest[-1].score, abs=0.01)
    assert not {hit.pair.id for hit in rest} & set(excluded)


def test_hits_below_the_minimum_cosine_are_left_out(searcher: DenseSearcher) -> None:
    cosines = [hit.score for hit in searcher.search("thing3 thing4", 16, -1.0, NO_FILTER)]
    floor = cosines[7]
    assert [hit.score for hit in searcher.search("thing3 thing4", 16, floor, NO_FILTER)] == [
        cosine for cosine in cosines if cosine >= floor
    ]
    assert searcher.search("thing3 thing4", 16, 1.01, NO_FILTER) == []


@settings(deadline=None, max_examples=20)
@given(queries, any_filters, st.integers(1, 16))
def test_hybrid_is_the_fusion_of_both_rankings(
    searcher: DenseSearcher, bm25: BM25Index, query: str, filters: Filters, k: int
) -> None:
    lists = [
        [filters.group(hit.pair) for hit in hits]
        for hits in (bm25.search(query, 50, 0.0, "entity", filters), searcher.search(query, 50, 0.4, filters))
    ]
    scores = {
        group: sum(1 / (60 + groups.index(group) + 1) for groups in lists if group in groups)
        for group in {*lists[0], *lists[1]}
    }
    hits = searcher.search_hybrid(query, k, 0.0, "entity", 0.4, filters)
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores.values(), reverse=True)[:k])
    for hit in hits:
        group = filters.group(hit.pair)
        assert hit.score == pytest.approx(scores[group])
        for rank, groups in zip((hit.bm25_rank, hit.dense_rank), lists, strict=True):
            assert rank == (groups.index(group) + 1 if group in groups else None)
        assert passes(hit.pair, filters)
    floor = hits[len(hits) // 2].score if hits else 0.0
    kept = searcher.search_hybrid(query, k, floor, "entity", 0.4, filters)
    assert kept == [hit for hit in hits if hit.score >= floor]


def test_hybrid_finds_pairs_by_words_and_by_meaning(tmp_path: Path, sentence_encoder: MakeEncoder) -> None:
    folder = sentence_encoder({"hound": [1, 0.1], "dog": [1, 0], "cat": [0, 1], "terrier": [-1, 0], "a": [0.01, 0.01]})
    texts = {"1": "a dog", "2": "a cat", "3": "a terrier", "4": "a terrier hound"}
    with IndexWriter(tmp_path / "lucene") as writer:
        for identifier, text in texts.items():
            writer.add(pairs()[0].model_copy(update={"id": identifier, "caption": text}))
        writer.commit({})
    bm25, opened = BM25Index(tmp_path / "lucene"), Encoder(folder)
    writer_of_vectors = DenseWriter(tmp_path / "vectors", 4, 2)
    writer_of_vectors.add(opened.texts(list(texts.values()), "document"))
    writer_of_vectors.finish("flat", texts)
    facts = Vectors(
        folder="vectors-0",
        of="texts",
        kind="flat",
        pairs=4,
        dimension=2,
        encoder=str(folder),
        encoder_digest=opened.digest,
        minimum_cosine=0.8,
    )
    searcher = DenseSearcher(bm25, facts, tmp_path / "vectors")

    def ids(hits: list[Hit]) -> list[str]:
        return [hit.pair.id for hit in hits]

    assert ids(bm25.search("a hound", 4, 0.0, "entity")) == ["4"]
    assert ids(searcher.search("a hound", 4, 0.8)) == ["1"]
    hybrid = searcher.search_hybrid("a hound", 4, 0.0, "entity", 0.8)
    assert sorted(ids(hybrid)) == ["1", "4"]
    assert {hit.pair.id: (hit.bm25_rank, hit.dense_rank) for hit in hybrid} == {"1": (None, 1), "4": (1, None)}

    moved = DenseSearcher(bm25, replace_encoder(facts, "/nowhere"), tmp_path / "vectors")
    with pytest.raises(InvalidArgument, match=r"method: cannot open the encoder .* is not a folder.*_ENCODER"):
        moved.search("a hound", 1, 0.0)
    found = DenseSearcher(bm25, replace_encoder(facts, "/nowhere"), tmp_path / "vectors", encoder=folder)
    assert ids(found.search("a hound", 1, 0.0)) == ["1"]
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(InvalidArgument, match="is not the encoder that this base's vectors were made with"):
        DenseSearcher(bm25, facts, tmp_path / "vectors").search("a hound", 1, 0.0)


def replace_encoder(facts: Vectors, folder: str) -> Vectors:
    return facts.model_copy(update={"encoder": folder})
