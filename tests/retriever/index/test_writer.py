import json
import random
from pathlib import Path

import pytest

from reimagen_common.errors import ReimagenError
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.jvm import in_java
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.pair import StoredPair
from tests.retriever.index.reference_searcher import ReferenceSearcher
from tools.peer import indexer_class

WORDS = [
    f"{start}{end}" for start in ("pand", "fox", "run", "snow", "ho") for end in ("a", "es", "ning", "s", "tel", "")
]
ANALYSES = [Analysis(), Analysis(k1=1.7, b=0.75), Analysis(language="de"), Analysis(language="zh")]


def stored(identifier: str, text: str, **more: object) -> StoredPair:
    known = {"shard": "00000.tar", "offset": 0, "length": 1, "sha256": "", "media_type": "image/png"}
    return StoredPair.model_validate({"id": identifier, "caption": text, "width": 4, "height": 3} | known | more)


def pairs() -> list[StoredPair]:
    rng = random.Random(0)
    made = []
    for number in range(600):
        text = " ".join(rng.choices(["the", "Ünder", "雪里的熊猫", "\U0001f600", *WORDS], k=rng.randint(1, 30)))
        made.append(stored(f"{rng.choice('aü词/')}{number}", text))
    return made


@in_java
def write_as_pyserini_does(folder: Path, analysis: Analysis) -> None:
    options = ["-index", str(folder), "-storeRaw", "-language", analysis.language]
    indexer = indexer_class()(str(folder), args=options, threads=1)
    for pair in pairs():
        pair = pair.model_copy(update={"caption": analysis.normalized(pair.caption)})
        indexer.add_doc_raw(json.dumps(pair.model_dump(mode="json") | {"contents": pair.caption}))
    indexer.close()


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda each: f"{each.language} {each.k1} {each.b}")
def test_our_writer_and_pyserinis_indexer_rank_equally(tmp_path: Path, analysis: Analysis) -> None:
    with IndexWriter(tmp_path / "ours", analysis) as writer:
        for pair in pairs():
            writer.add(pair)
        writer.commit({})
    write_as_pyserini_does(tmp_path / "theirs", analysis)
    ours, theirs = BM25Index(tmp_path / "ours", analysis), ReferenceSearcher(tmp_path / "theirs", analysis)
    by_id = {pair.id: pair for pair in pairs()}
    rng = random.Random(1)
    found = 0
    for _ in range(200):
        query = " ".join(rng.choices(["the", "雪里", "unknown", *WORDS], k=rng.randint(1, 8)))
        mine, reference = ours.search(query, 40, 0, "any"), theirs.search(ours.terms(query), 40)
        assert [hit.pair for hit in mine] == [by_id[identifier] for identifier, _ in reference]
        assert [hit.score for hit in mine] == pytest.approx([score for _, score in reference], rel=1e-6)
        found += len(mine)
    assert found > 5_000


def test_a_language_has_its_own_stems_and_stop_words(tmp_path: Path) -> None:
    german = Analysis(language="de")
    with IndexWriter(tmp_path, german) as writer:
        writer.add(stored("a", "die Häuser am See"))
        writer.commit({})
    assert BM25Index(tmp_path, german).terms("die Häuser und das Haus") == ["haus", "haus"]
    assert BM25Index(tmp_path, german).search("ein Haus", 1, 0, "any")
    assert not BM25Index(tmp_path).search("ein Haus", 1, 0, "any")


def test_pairs_are_updated_and_removed(tmp_path: Path) -> None:
    first, second = stored("a/1", "a kea"), stored("a/1", "a fox", license="MIT")
    with IndexWriter(tmp_path) as writer:
        for pair in (first, stored("b", "a hotel"), second):
            writer.put(pair)
        writer.remove("b")
        writer.remove("nobody")
        writer.commit({})
    index = BM25Index(tmp_path)
    assert index.pairs == 1
    assert [index.pair(document) for document in index.in_order()] == [second]
    assert (index.get("a/1"), index.get("b")) == (second, None)
    assert not index.search("kea hotel", 4, 0, "any")
    assert [hit.pair for hit in index.search("fox", 4, 0, "any")] == [second]


def test_uncommitted_changes_are_neither_visible_nor_stored(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        writer.put(stored("a", "a kea"))
        writer.commit({"so": "far"})
        writer.put(stored("b", "a kea"))
        writer.remove("a")
        assert BM25Index(tmp_path).pairs == 1
    with IndexWriter(tmp_path) as writer:
        writer.commit({})
    assert [hit.pair.id for hit in BM25Index(tmp_path).search("kea", 4, 0, "any")] == ["a"]


def test_words_of_removed_pairs_do_not_break_a_search(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        for number in range(50):
            writer.put(stored(f"{number}", "a kea"))
        writer.commit({})
        for number in range(1, 50):
            writer.remove(f"{number}")
        writer.commit({})
    index = BM25Index(tmp_path)
    (hit,) = index.search("a kea in the snow", 4, 0, "entity")
    assert (hit.pair.id, hit.score > 0) == ("0", True)


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReimagenError, match=r"Lucene cannot write to .*file"):
        IndexWriter(tmp_path / "file")
    with IndexWriter(tmp_path / "lucene"), pytest.raises(ReimagenError, match=r"Lucene cannot write to .*lucene"):
        IndexWriter(tmp_path / "lucene")
