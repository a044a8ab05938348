"""Ranking in memory against Lucene, search by search: equal pairs, order and scores, bit for bit."""

import itertools
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.index.bm25 import BM25Index, Relevance
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.neighbors.captions import read_captions
from reimagen_retriever.neighbors.export import export
from reimagen_retriever.neighbors.ranking import Ranking
from reimagen_retriever.neighbors.shards import Options

ALL = Filters(keep_duplicates=True)
WORDS = ("the", "fox", "foxes", "kea", "snow", "red", "leopard", "rock", "Ünder", "雪里", "and", "in", "여우", "yeti")


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def written(folder: Path, texts: Sequence[str], analysis: Analysis, removed: Sequence[int] = ()) -> BM25Index:
    """Write an index of texts, in two segments; ids are in another order than pairs."""
    with IndexWriter(folder, analysis) as writer:
        for number, text in enumerate(texts):
            writer.add(
                StoredPair(
                    id=name(number),
                    caption=text,
                    shard="00000.tar",
                    offset=number,
                    length=1,
                    sha256="",
                    media_type="image/png",
                    width=4,
                    height=3,
                )
            )
            if number == len(texts) // 2:
                writer.commit({})
        for number in removed:
            writer.remove(name(number))
        writer.commit({})
    return BM25Index(folder, analysis)


@pytest.fixture(scope="module", autouse=True)
def small_groups() -> Iterator[None]:
    """Make the groups so small that there are many, with incomplete last ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reimagen_retriever.neighbors.ranking._GROUP", 16)
        patch.setattr("reimagen_retriever.neighbors.ranking._PIECE", 5)
        yield


def name(number: int) -> str:
    return f"{'aü词/'[number * 7 % 4]}{number}"


def assert_same(
    index: BM25Index, queries: Sequence[str], k: int, relevance: Relevance, pool: ThreadPoolExecutor
) -> int:
    """Compare all queries, and return the number of hits."""
    ranking = Ranking(read_captions(index, index.in_order()), index, pool)
    found = ranking.search(queries, k, relevance)
    for query, hits in zip(queries, found, strict=True):
        assert hits == index.search(query, k, 0.0, relevance, ALL), query
    return sum(map(len, found))


texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
analyses = st.sampled_from([Analysis(), Analysis(k1=0), Analysis(k1=50, b=1), Analysis(k1=1.2, b=0), Analysis(b=0.75)])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(texts, min_size=1, max_size=80),
    st.lists(texts, min_size=1, max_size=20),
    st.sets(st.integers(0, 79)),
    analyses,
    st.integers(1, 12),
    st.sampled_from(["any", "entity", "phrase"]),
)
def test_any_captions_are_ranked_like_lucene(
    pool: ThreadPoolExecutor,
    captions: list[str],
    queries: list[str],
    removed: set[int],
    analysis: Analysis,
    k: int,
    relevance: Relevance,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        index = written(Path(folder), captions, analysis, [number for number in removed if number < len(captions) - 1])
        assert_same(index, [*captions, *queries], k, relevance, pool)
        index.close()


def test_scores_do_not_depend_on_what_is_required(tmp_path: Path) -> None:
    """Lucene would add scores in 32 bits where it makes some of the optional clauses required ones."""
    index = written(tmp_path, ["fox", "fox", "kea", "fox kea", "fox kea snow in the rock"], Analysis(k1=0, b=0.4))
    for foxes, keas, snows in itertools.product(range(1, 5), repeat=3):
        query = f"{'fox ' * foxes}{'kea ' * keas}in {'snow ' * snows}of the rock"
        scores = {hit.pair.id: hit.score for hit in index.search(query, 5, 0.0, "any", ALL)}
        relevant = {hit.pair.id: hit.score for hit in index.search(query, 5, 0.0, "phrase", ALL)}
        assert relevant == {found: scores[found] for found in (name(3), name(4))}, query
    index.close()


@pytest.mark.parametrize("k", [1, 3, 200])
@pytest.mark.parametrize("relevance", ["any", "entity"])
def test_skipped_captions_would_not_have_been_found(
    zipf: tuple[BM25Index, list[str]], pool: ThreadPoolExecutor, k: int, relevance: Relevance
) -> None:
    index, captions = zipf
    twice = [f"{one} {one} {other}" for one, other in zip(captions[::200], captions[1::200], strict=True)]
    queries = captions[::40] + twice
    assert assert_same(index, queries, k, relevance, pool) > 0.9 * len(queries)


@pytest.fixture(scope="module")
def zipf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BM25Index, list[str]]]:
    """Return many captions of few frequent and many rare words; a tenth occurs twice, and some are removed."""
    rng = random.Random(0)
    vocabulary = [f"w{number}x" for number in range(3_000)]
    weights = [1 / (rank + 1) for rank in range(3_000)]
    captions = [" ".join(rng.choices(vocabulary, weights, k=rng.randint(1, 20))) for _ in range(8_000)]
    captions[-800:] = captions[:800]
    index = written(tmp_path_factory.mktemp("zipf"), captions, Analysis(), range(0, 8_000, 90))
    yield index, captions
    index.close()


COMPOUNDS = ["関西国際空港", "雪の中の赤い狐", "백설공주", "雪里的熊猫", "Donaudampfschiff", "الكتاب", "किताबें", "снега"]


@pytest.mark.parametrize("language", ["ar", "de", "hi", "ja", "ko", "ru", "zh"])
def test_lengths_equal_lucenes_in_all_languages(tmp_path: Path, pool: ThreadPoolExecutor, language: str) -> None:
    """For a decompounded word, Lucene may count only the parts, so the length differs from the number of terms."""
    rng = random.Random(1)
    captions = [" ".join(rng.choices(COMPOUNDS, k=rng.randint(1, 12))) for _ in range(150)]
    index = written(tmp_path, captions, Analysis(language=language))
    assert assert_same(index, captions, 5, "any", pool) >= 500
    index.close()


def test_long_texts_are_ranked_like_lucene(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    rng = random.Random(2)
    captions = [" ".join(rng.choices([f"w{n}x" for n in range(50)], k=10 ** rng.randint(0, 4))) for _ in range(40)]
    index = written(tmp_path, captions, Analysis())
    assert_same(index, [caption[:1_000] for caption in captions], 10, "entity", pool)
    index.close()


def test_the_command_needs_numba_and_serving_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, reimagen_retriever.cli, reimagen_retriever.supervisor; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'reimagen-retriever\[neighbors\]'"):
        export(tmp_path, tmp_path / "out", Options(k=2, relevance="entity"))
