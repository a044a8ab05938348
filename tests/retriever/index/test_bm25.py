import json
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.pair import StoredPair
from tests.retriever.index.stored import stored

ROOT = Path(__file__).resolve().parents[3]

COLORS = ("red", "green", "blue", "golden", "tiny", "old", "snow")
THINGS = ("panda", "fox", "leopard", "apple", "train", "hotel", "boat", "kea", "rocket", "cloud", "drum")
PLACES = ("in the snow", "on the beach", "under a grey sky with clouds", "at night", "among tall trees in autumn")
STYLES = 3


def texts() -> list[str]:
    """Return colored objects in three styles each, with ties, and objects in scenes, with longer captions."""
    named = [f"a {color} {thing}" for color in COLORS for thing in THINGS for _ in range(STYLES)]
    placed = [f"a {thing}, an {thing} {place}" for thing in THINGS for place in PLACES]
    return named + placed + [f"an empty place {place}" for place in PLACES]


def write(folder: Path, pairs: Sequence[StoredPair]) -> Path:
    with IndexWriter(folder) as writer:
        for pair in pairs:
            writer.add(pair)
        writer.commit({})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = [stored(f"{number:05d}", text) for number, text in enumerate(texts())]
    random.Random(0).shuffle(pairs)  # Equal scores come in the order of the ids, not of the writing.
    return write(tmp_path_factory.mktemp("index") / "lucene", pairs)


@pytest.fixture(scope="module")
def index(folder: Path) -> BM25Index:
    return BM25Index(folder)


def queries() -> list[str]:
    rng = random.Random(1)
    words = [word for text in texts() for word in text.split()] + ["unicorn", "Pandas!", "running", "SNOWY"]
    free = [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(150)]
    return free + [f"a {color} {thing} {place}" for color in COLORS for thing in THINGS[:3] for place in PLACES]


def test_pyserinis_searcher_and_ours_rank_equally(folder: Path, index: BM25Index) -> None:
    asked = queries()
    command = [sys.executable, "-m", "tests.retriever.index.pyserini_searcher", str(folder), "16"]
    answer = subprocess.run(command, cwd=ROOT, input=json.dumps(asked), capture_output=True, text=True, check=True)
    theirs = json.loads(answer.stdout)
    assert sum(bool(hits) for hits in theirs) > 200
    for query, hits in zip(asked, theirs, strict=True):
        ours = [(hit.pair.id, hit.score) for hit in index.search(query, 16, 0, "any")]
        assert [identifier for identifier, _ in ours] == [identifier for identifier, _ in hits], query
        # Pyserini rounds to four decimals, and takes a millionth off for each tie.
        assert [score for _, score in ours] == pytest.approx([score for _, score in hits], abs=1e-4), query


def test_scores_equal_bm25(index: BM25Index) -> None:
    documents = [index.terms(text) for text in texts()]
    average = sum(map(len, documents)) / len(documents)
    k1, b = Analysis().k1, Analysis().b
    assert (k1, b) == (0.9, 0.4)

    def score(query: list[str], document: list[str]) -> float:
        total = 0.0
        for term in query:
            holding = sum(term in other for other in documents)
            weight = math.log1p((len(documents) - holding + 0.5) / (holding + 0.5))
            frequency = document.count(term)
            total += weight * frequency / (frequency + k1 * (1 - b + b * len(document) / average))
        return total

    query = "a golden kea in the snow"
    best = sorted((score(index.terms(query), document) for document in documents), reverse=True)[:8]
    assert [hit.score for hit in index.search(query, 8, 0, "any")] == pytest.approx(best, rel=1e-5)


def test_equal_scores_are_ordered_by_id(index: BM25Index) -> None:
    hits = index.search("golden kea", STYLES, 0, "any")
    assert {hit.pair.caption for hit in hits} == {"a golden kea"}
    assert [hit.pair.id for hit in hits] == sorted(hit.pair.id for hit in hits)
    assert len({hit.score for hit in hits}) == 1


def test_a_k_above_the_number_of_pairs_returns_all(index: BM25Index) -> None:
    assert len(index.search("unicorn kea", 10_000, 0, "any")) == len([text for text in texts() if "kea" in text])


@pytest.mark.parametrize(
    "query",
    [
        '"golden kea"',
        "golden AND kea",
        "+golden -kea",
        "contents: golden kea~2",
        "gold* k?a (golden OR kea)^3 golden/kea",
        "golden kea \\ [a TO b] {} !",
        "golden\tkea\n\r",
        "GOLDEN Kea",
    ],
)
def test_a_query_has_no_operators(index: BM25Index, query: str) -> None:
    assert {"golden", "kea"} <= set(index.terms(query))
    assert any(hit.pair.caption == "a golden kea" for hit in index.search(query, 3, 0, "any"))


@pytest.mark.parametrize("query", ["", "the of and", "?!*", "unicorn", "\x00", "\udcff", "\U0001f600", "词"])
def test_a_query_with_no_known_word_finds_nothing(index: BM25Index, query: str) -> None:
    assert index.search(query, 16, 0, "any") == []


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_searched(index: BM25Index, text: str) -> None:
    hits = index.search(f"{text} golden kea", 4, 0, "any")
    assert len(hits) == 4
    named = index.search(f"{text} golden kea", 1_000, 0, "entity")
    assert named == [hit for hit in index.search(f"{text} golden kea", 1_000, 0, "any") if hit in named]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*COLORS, *THINGS, "the", "Pandas", "unicorn"]), min_size=1, max_size=8), st.randoms())
def test_neither_order_nor_case_of_the_words_matters(index: BM25Index, words: list[str], rng: random.Random) -> None:
    shuffled = rng.sample(words, len(words))
    assert index.search(" ".join(words), 8, 0, "any") == index.search(" ".join(shuffled).upper(), 8, 0, "any")


def test_a_query_of_a_thousand_characters_is_searched(index: BM25Index) -> None:
    assert index.search(" ".join(chr(97 + i % 26) + chr(97 + i // 26) for i in range(333)), 2, 0, "any") == []
    assert index.search("kea " * 250, 1, 0, "phrase")


def test_hits_below_the_minimum_score_are_left_out(index: BM25Index) -> None:
    query = "a golden kea in the snow"
    scores = [hit.score for hit in index.search(query, 16, 0, "any")]
    floor = scores[7]
    assert floor > scores[-1]
    assert [hit.score for hit in index.search(query, 16, floor, "any")] == [score for score in scores if score >= floor]


class TestRelevance:
    """Objects and a scene, in captions of different length."""

    @pytest.fixture(scope="class")
    @classmethod
    def things(cls, tmp_path_factory: pytest.TempPathFactory) -> BM25Index:
        known = [
            "a red panda",
            "a snow leopard",
            "a leopard",
            "a hotel",
            "an empty snowy meadow under a grey sky",
            "a walrus that has slept on an ice floe for hours and looks at the photographer, winter in the north",
        ]
        pairs = [stored(f"{number}", text) for number, text in enumerate(known + [f"a thing {i}" for i in range(40)])]
        return BM25Index(write(tmp_path_factory.mktemp("things") / "lucene", pairs))

    @pytest.mark.parametrize(
        ("prompt", "first"),
        [
            ("an oil painting of a red panda that juggles lanterns in the snow", "a red panda"),
            ("a leopard on a rock", "a leopard"),
            ("meadow", "an empty snowy meadow"),
            ("two walruses at sunset", "a walrus that has"),
            # By the whole prompt, the meadow matches most words.
            ("a hotel in a snowy meadow under the sky", "a hotel"),
            # The orientation of an object is no part of its name.
            ("a leopard leaning left, in a meadow", "a leopard"),
            ("two leopards tilted right", "a leopard"),
            ("a tiny hotel upside down on the left", "a hotel"),
            ("a red panda turned upside down, underground", "a red panda"),
            ("a hotel cut out on white", "a hotel"),
        ],
    )
    def test_relevance_does_not_depend_on_lengths(self, things: BM25Index, prompt: str, first: str) -> None:
        assert things.search(prompt, 1, 0, "entity")[0].pair.caption.startswith(first)

    @pytest.mark.parametrize("prompt", ["a unicorn in the snow", "a grey sky dragon", "a spaceship made of ice", "a !"])
    def test_an_entity_that_no_caption_names_is_not_found(self, things: BM25Index, prompt: str) -> None:
        assert things.search(prompt, 16, 0, "entity") == []

    def test_relevance_any_finds_captions_that_share_a_word(self, things: BM25Index) -> None:
        found = things.search("a hotel in a snowy meadow under the sky", 1, 0, "any")
        assert [hit.pair.caption for hit in found] == ["an empty snowy meadow under a grey sky"]

    def test_relevance_phrase_needs_all_words(self, things: BM25Index) -> None:
        found = things.search("a snow leopard on a rock", 16, 0, "phrase")
        assert [hit.pair.caption for hit in found] == ["a snow leopard"]
        assert len(things.search("a snow leopard on a rock", 16, 0, "entity")) == 2


def test_a_pair_is_returned_as_added(tmp_path: Path) -> None:
    pair = StoredPair(
        id="an id/ü",
        caption='a "café" \\ \U0001f600 词 with {"json": [1]}',
        shard="00007.tar",
        offset=2**40,
        length=2**22,
        sha256="0" * 64,
        media_type="image/webp",
        width=1,
        height=2,
        source="https://example.org/?a=1&b=\u00e9",
        license="CC-BY-4.0",
    )
    index = BM25Index(write(tmp_path / "lucene", [pair, stored("other", "a café")]))
    assert index.get("an id/ü") == pair
    assert index.get("an id") is None
    assert index.search("café json", 1, 0, "any")[0].pair == pair
    index.close()


def test_an_invalid_index_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="Lucene cannot read"):
        BM25Index(tmp_path)
    write(tmp_path / "lucene", [stored("a", "a kea")])
    next((tmp_path / "lucene").glob("*.cfs")).unlink()
    with pytest.raises(DamagedError, match="Lucene cannot read"):
        BM25Index(tmp_path / "lucene")


def test_the_cache_of_pairs_is_bounded(folder: Path, index: BM25Index, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [index.search(query, 8, 0, "entity") for query in queries()]
    monkeypatch.setattr("reimagen_retriever.index.pairs._CACHED_PAIRS", 5)
    small = BM25Index(folder)
    assert [small.search(query, 8, 0, "entity") for query in queries()] == expected
    assert [small.pair(document) for document in small.in_order()] == small.read(small.in_order())
    assert len(small._cached) <= 5
    small.close()


def test_a_caption_in_the_format_of_a_hit_is_a_caption(tmp_path: Path) -> None:
    text = "a kea doc=7 score=NaN shardIndex=-1 fields=[9.0, {"
    index = BM25Index(write(tmp_path / "lucene", [stored("a", text), stored("b", f"{text} and more")]))
    assert [hit.pair.caption for hit in index.search("kea", 2, 0, "any")] == [text, f"{text} and more"]
    index.close()
