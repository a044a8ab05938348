"""Fast rankings: their order equals that of one long sorted search for any ties."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_retriever.index.bm25 import BM25Index, BM25Search
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.index.writer import IndexWriter
from tests.retriever.index.reference_searcher import ReferenceSearcher
from tests.retriever.index.stored import stored

WORDS = ("red", "blue", "panda", "fox", "kea", "snow", "train", "hotel")
SEGMENTS = 6
prompts = st.lists(st.sampled_from([*WORDS, "unicorn", "and", "in"]), max_size=5).map(" ".join)
filters = st.builds(
    Filters,
    exclude_ids=st.sets(st.sampled_from(["0-0", "000é", "1-5", "222é"]), max_size=2).map(tuple),
    keep_duplicates=st.booleans(),
)
searches = st.builds(
    BM25Search,
    prompts,
    st.integers(1, 40),
    st.floats(0, 3),
    st.sampled_from(["any", "entity", "phrase"]),
    filters,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an index of few texts, each many times, in several segments; ids are not in the order of writing."""
    folder = tmp_path_factory.mktemp("index") / "lucene"
    with IndexWriter(folder) as writer:
        for segment in range(SEGMENTS):
            for number in range(60):
                text = " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(1, 2 + number % 4))
                identifier = f"{(number * 37 + segment * 11) % 360:03d}é" if number % 5 else f"{segment}-{number}"
                writer.put(stored(identifier, text))
            writer.commit({})
    return folder


@pytest.fixture(scope="module", params=[1, 5], ids="{} parts".format)
def index(folder: Path, request: pytest.FixtureRequest) -> BM25Index:
    """Return the index, in which that many threads search for a query; parts and segments have different borders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reimagen_retriever.index.lucene._CORES", request.param)
        patch.setattr("reimagen_retriever.index.lucene._SMALLEST_PART", SEGMENTS * 60 // 5)
        return BM25Index(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> ReferenceSearcher:
    return ReferenceSearcher(folder)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([*WORDS, "unicorn"]), min_size=1, max_size=5), st.integers(1, 40))
def test_the_first_hits_are_those_of_a_long_sorted_search(index: BM25Index, words: list[str], k: int) -> None:
    everything = index.search(" ".join(words), 1_000, 0, "any")
    order = [(-hit.score, hit.pair.id.encode()) for hit in everything]
    assert order == sorted(order)
    assert index.search(" ".join(words), k, 0, "any") == everything[:k]
    named = [hit for hit in everything if words[-1] in hit.pair.caption.split()]
    assert index.search(" ".join(words), k, 0, "entity") == named[:k]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([*WORDS, "unicorn"]), min_size=1, max_size=8), st.integers(1, 40))
def test_ids_and_scores_equal_lucenes_to_the_bit(
    index: BM25Index, reference: ReferenceSearcher, words: list[str], k: int
) -> None:
    hits = index.search(" ".join(words), k, 0, "any")
    assert [(hit.pair.id, hit.score) for hit in hits] == reference.search(index.terms(" ".join(words)), k)


def test_there_are_ties_within_and_across_segments(index: BM25Index) -> None:
    scores = [hit.score for hit in index.search("panda", 1_000, 0, "any")]
    assert len(scores) > 2 * SEGMENTS > 2 * len(set(scores))


@settings(deadline=None, max_examples=60)
@given(st.lists(searches, max_size=40))
def test_a_batch_finds_what_single_searches_find(index: BM25Index, searches: list[BM25Search]) -> None:
    assert index.search_all(searches) == [index.search(*search) for search in searches]
