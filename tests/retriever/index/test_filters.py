import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.filters import MAXIMUM_EXCLUDED, MAXIMUM_SIDE, MAXIMUM_VALUES, NO_FILTER, Filters
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.index.writer import UNSAFE_FROM, IndexWriter
from reimagen_retriever.knowledge_base.pair import StoredPair

WORDS = ("red", "golden", "tiny", "panda", "fox", "kea", "snow", "train")
LICENSES = ("MIT", "CC0-1.0", "CC-BY-4.0", "")
SOURCES = ("https://a.example/1", "https://a.example/2", "https://b.example/", "")
PAIRS = 400


def pairs() -> list[StoredPair]:
    rng = random.Random(0)
    made: list[StoredPair] = []
    for number in range(PAIRS):
        originals = [pair.id for pair in made if not pair.duplicate_of]
        made.append(
            StoredPair(
                id=f"{number:04d}",
                caption=" ".join(rng.choices(WORDS, k=rng.randint(1, 6))),
                shard="00000.tar",
                offset=0,
                length=1,
                sha256="0" * 64,
                media_type="image/png",
                width=rng.choice((16, 64, 300)),
                height=rng.choice((32, 64, 200)),
                source=rng.choice(SOURCES),
                license=rng.choice(LICENSES),
                unsafe=rng.choice((None, 0.0, UNSAFE_FROM, 0.9)),
                duplicate_of=rng.choice(originals) if originals and rng.random() < 0.6 else "",
            )
        )
    return made


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> BM25Index:
    folder = tmp_path_factory.mktemp("index") / "lucene"
    with IndexWriter(folder) as writer:
        for pair in pairs():
            writer.add(pair)
        writer.commit({})
    return BM25Index(folder)


def passes(pair: StoredPair, filters: Filters) -> bool:
    return (
        (not filters.licenses or pair.license in filters.licenses)
        and (not filters.sources or any(pair.source.startswith(source) for source in filters.sources))
        and min(pair.width, pair.height) >= filters.minimum_side
        and not (filters.safe_only and pair.unsafe is not None and pair.unsafe >= UNSAFE_FROM)
        and pair.id not in filters.exclude_ids
    )


def best_of_each(hits: list[Hit], filters: Filters) -> list[Hit]:
    kept: dict[str, Hit] = {}
    for hit in hits:
        kept.setdefault(hit.pair.id if filters.keep_duplicates else hit.pair.duplicate_of or hit.pair.id, hit)
    return list(kept.values())


any_filters = st.builds(
    Filters,
    licenses=st.lists(st.sampled_from([*LICENSES, "none has it"]), max_size=3).map(tuple),
    sources=st.lists(
        st.sampled_from(["https://a", "https://a.example/1", "https://b.example/", "ftp:"]), max_size=2
    ).map(tuple),
    minimum_side=st.sampled_from([0, 16, 17, 64, 200, 201]),
    safe_only=st.booleans(),
    exclude_ids=st.lists(st.integers(0, PAIRS).map("{:04d}".format), max_size=40).map(tuple),
    keep_duplicates=st.booleans(),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), any_filters, st.integers(1, 16))
def test_filtering_keeps_passing_hits_with_the_same_scores(
    index: BM25Index, words: list[str], filters: Filters, k: int
) -> None:
    everything = index.search(" ".join(words), PAIRS, 0, "any", Filters(keep_duplicates=True))
    expected = best_of_each([hit for hit in everything if passes(hit.pair, filters)], filters)[:k]
    assert index.search(" ".join(words), k, 0, "any", filters) == expected


@settings(deadline=None, max_examples=50)
@given(any_filters)
def test_pairs_and_ids_are_filtered(index: BM25Index, filters: Filters) -> None:
    passing = {pair.id: pair for pair in pairs() if passes(pair, filters)}
    assert passing.keys() == set(index.ids_of(filters, len(passing)) or [])
    assert index.ids_of(filters, 0) == (None if passing else [])
    asked = [f"{number:04d}" for number in range(0, PAIRS + 40, 20)]
    assert index.pairs_of(asked, filters) == {each: passing[each] for each in asked if each in passing}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6, unique=True), any_filters, st.integers(1, 16))
def test_per_entity_search_is_filtered(index: BM25Index, words: list[str], filters: Filters, k: int) -> None:
    query = " and ".join(words)
    hits = index.search_per_entity(query, k, 0, "any", filters)
    assert all(passes(hit.pair, filters) for hit in hits)
    assert best_of_each(hits, filters) == hits
    # The first hit is the best of the first entity with hits.
    best = (index.search(thing.text, 1, 0, "any", filters) for thing in index.entities(query).named)
    assert hits[:1] == next((found for found in best if found), [])


def test_without_filters_only_worse_near_duplicates_are_left_out(index: BM25Index) -> None:
    everything = index.search("a golden kea", PAIRS, 0, "any", Filters(keep_duplicates=True))
    assert index.search("a golden kea", PAIRS, 0, "any") == best_of_each(everything, NO_FILTER)
    assert len(everything) > 2 * len(best_of_each(everything, NO_FILTER))


def test_many_near_duplicates_hide_no_other_pair(tmp_path: Path) -> None:
    base = pairs()[0]
    with IndexWriter(tmp_path / "lucene") as writer:
        for number in range(300):
            changes = {"id": f"{number:04d}", "caption": "a kea", "duplicate_of": "0000" if number else ""}
            writer.add(base.model_copy(update=changes))
        writer.add(base.model_copy(update={"id": "other", "caption": "a kea in the snow, tiny"}))
        writer.commit({})
    index = BM25Index(tmp_path / "lucene")
    assert [hit.pair.id for hit in index.search("a kea", 2, 0, "any")] == ["0000", "other"]
    index.close()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([*WORDS, "the", "unicorn"]), min_size=1, max_size=8))
def test_an_explanation_adds_up_to_the_score(index: BM25Index, words: list[str]) -> None:
    query = " ".join(words)
    for hit in index.search(query, 4, 0, "any"):
        terms = index.explain(query, hit.pair.id)
        assert sum(term.score for term in terms) == pytest.approx(hit.score, rel=1e-5)
        assert {term.term for term in terms} == set(index.terms(query)) & set(index.terms(hit.pair.caption))
        for term in terms:
            assert term.score == pytest.approx(term.times * term.idf * term.tf, rel=1e-5)
            assert term.times == index.terms(query).count(term.term)
        assert terms == sorted(terms, key=lambda term: (-term.score, term.term))
    assert index.explain(query, "no pair") == []


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (Filters(licenses=("x",) * 65), f"licenses: must have at most {MAXIMUM_VALUES} values, got 65"),
        (Filters(sources=("x" * 2_001,)), "sources: must have at most 2,000 characters each"),
        (Filters(sources=("",)), "sources: must not contain an empty string: every source begins with it"),
        (Filters(exclude_ids=("x",) * 501), f"exclude_ids: must have at most {MAXIMUM_EXCLUDED} values, got 501"),
        (Filters(minimum_side=-1), f"minimum_side: must be 0 to {MAXIMUM_SIDE:,}, got -1"),
    ],
)
def test_values_beyond_the_limits_are_refused(filters: Filters, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        filters.check()
    assert caught.value.message == message


def test_any_text_can_be_a_filter(index: BM25Index) -> None:
    odd = ("\udcff", "a\x00b", "词", "*", "https://a.example/1\\")
    filters = Filters(licenses=odd, sources=odd, exclude_ids=odd)
    assert index.search("a golden kea", 2, 0, "any", filters) == []
    assert index.search("a golden kea", 2, 0, "any", Filters(exclude_ids=odd)) == index.search(
        "a golden kea", 2, 0, "any"
    )
