from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.jvm import in_java
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.pair import StoredPair
from tests.waiting import SECONDS

WORDS = ("red", "blue", "panda", "fox", "kea", "snow", "train", "hotel")


def write(folder: Path) -> Path:
    with IndexWriter(folder) as writer:
        for number in range(200):
            writer.add(
                StoredPair(
                    id=f"{number:03d}",
                    caption=" ".join(WORDS[(number * step) % len(WORDS)] for step in (1, 3, 5)) + f" thing{number}",
                    shard="00000.tar",
                    offset=0,
                    length=1,
                    sha256="0" * 64,
                    media_type="image/png",
                    width=1,
                    height=1,
                )
            )
        writer.commit({})
    return folder


def test_searches_of_many_threads_do_not_mix(tmp_path: Path) -> None:
    index = BM25Index(write(tmp_path / "lucene"))
    queries = [f"{WORDS[number % 8]} {WORDS[number // 8 % 8]} thing{number}" for number in range(200)]
    expected = [index.search(query, 4, 0, "any") for query in queries]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(lambda query: index.search(query, 4, 0, "any"), queries)) == expected
        assert list(pool.map(lambda number: index.get(f"{number:03d}"), range(200))) == [
            next(hit.pair for hit in index.search(f"thing{number}", 1, 0, "any")) for number in range(200)
        ]


def test_a_search_does_not_wait_for_other_calls_into_java(tmp_path: Path) -> None:
    index = BM25Index(write(tmp_path / "lucene"))
    expected = index.search("red panda", 4, 0, "any")

    @in_java
    def search_meanwhile(pool: ThreadPoolExecutor) -> None:
        assert pool.submit(index.search, "red panda", 4, 0, "any").result(SECONDS) == expected
        assert pool.submit(index.get, "007").result(SECONDS)
        assert pool.submit(index.terms, "words that no text before had").result(SECONDS)

    with ThreadPoolExecutor(1) as pool:
        search_meanwhile(pool)
