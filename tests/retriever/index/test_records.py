"""Every pair that a base can hold is read as it was written."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.pair import (
    MAXIMUM_ID_BYTES,
    MAXIMUM_NOTE_CHARACTERS,
    MAXIMUM_TEXT_CHARACTERS,
    StoredPair,
    shard_name,
)
from tests.retriever.index.stored import stored

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
longest = st.sampled_from([1, 7, 1_000_000, 2**32 - 1])
pairs = st.builds(
    StoredPair,
    id=texts.filter(bool),
    caption=texts | st.just("🦊" * MAXIMUM_TEXT_CHARACTERS),
    shard=st.integers(0, 2**32 - 1).map(shard_name),
    offset=st.integers(0, 2**63),
    length=longest,
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    media_type=st.sampled_from(["image/png", "image/jpeg", "image/webp"]),
    width=longest,
    height=st.integers(1, 100_000),
    source=texts | st.just("🦊" * MAXIMUM_NOTE_CHARACTERS),
    license=texts | st.just("🦊" * MAXIMUM_NOTE_CHARACTERS),
    unsafe=st.none() | st.floats(0, 1),
    duplicate_of=texts | st.just("x" * MAXIMUM_ID_BYTES),
)


sources = st.lists(st.sampled_from(("a", "/", ":", "é", "://", "https://a.b/")), max_size=6).map("".join)


@settings(deadline=None, max_examples=40)
@given(st.lists(pairs, min_size=1, max_size=12, unique_by=lambda pair: pair.id))
def test_pairs_are_read_as_they_were_written(written: list[StoredPair]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with IndexWriter(Path(folder)) as writer:
            for number, pair in enumerate(written):
                writer.add(pair)
                if number == len(written) // 2:
                    writer.commit({})
            writer.commit({})
        index = BM25Index(Path(folder))
        backwards = range(len(written) - 1, -1, -1)
        assert index.read(backwards) == written[::-1]
        for pair in written:
            assert index.get(pair.id) == pair
        index.close()


@settings(deadline=None, max_examples=40)
@given(st.lists(sources, min_size=1, max_size=30), st.lists(sources, min_size=1, max_size=8))
def test_a_filter_finds_the_sources_with_a_prefix(sources: list[str], prefixes: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with IndexWriter(Path(folder)) as writer:
            for number, source in enumerate(sources):
                writer.add(stored(f"{number}", "a fox").model_copy(update={"source": source}))
            writer.commit({})
        index = BM25Index(Path(folder))
        for prefix in {each[:end] for each in (*sources, *prefixes) for end in range(1, len(each) + 1)}:
            passing = [f"{number}" for number, source in enumerate(sources) if source.startswith(prefix)]
            filters = Filters(sources=(prefix,))
            assert sorted(index.ids_of(filters, len(sources)) or []) == sorted(passing), prefix
            hits = index.search("a fox", len(sources), 0, "any", filters)
            assert sorted(hit.pair.id for hit in hits) == sorted(passing), prefix
        index.close()
