from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.pair import StoredPair

STYLES = 3
THINGS = (
    "a poodle",
    "a macaw",
    "a bear",
    "a polar bear",
    "a calm bear",
    "a red fox",
    "a red panda",
    "a fox",
    "a snow leopard",
)
SCENES = ("a field of snow under a pale sky, with flakes falling", "a beach beside a calm blue ocean")
Find = Callable[[str, int], list[str]]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> BM25Index:
    """Return an index of objects and scenes in several styles with the same caption, like the demonstration's."""
    texts = [text for text in (*THINGS, *SCENES) for _ in range(STYLES)] + [f"a thing {i}" for i in range(40)]
    folder = tmp_path_factory.mktemp("index") / "lucene"
    with IndexWriter(folder) as writer:
        for number, text in enumerate(texts):
            writer.add(
                StoredPair(
                    id=f"{number:03d}",
                    caption=text,
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
    return BM25Index(folder)


@pytest.fixture(scope="module")
def find(index: BM25Index) -> Find:
    return lambda query, k: [hit.pair.caption for hit in index.search_per_entity(query, k, 0, "entity")]


@pytest.mark.parametrize(
    ("query", "things"),
    [
        ("a poodle and a macaw in the snow", {"a poodle", "a macaw"}),
        ("in the snow, on a pale beach, a macaw; a poodle", {"a poodle", "a macaw"}),
        # One caption is part of the other.
        ("a bear and a polar bear", {"a bear", "a polar bear"}),
        ("a polar bear and a bear on the beach", {"a bear", "a polar bear"}),
        # They share an adjective, and one caption lacks it.
        ("a red fox and a red panda in the snow", {"a red fox", "a red panda"}),
        ("a fox and a red panda", {"a fox", "a red panda"}),
        # An object shares a word with the scene, and a third object one with each.
        ("a macaw and a polar bear on a calm beach", {"a macaw", "a polar bear"}),
        ("a poodle and a snow leopard in the snow", {"a poodle", "a snow leopard"}),
        # One of them is mentioned twice.
        ("a poodle, the poodle of a friend, beside a macaw", {"a poodle", "a macaw"}),
        ("two POODLES & three macaws!", {"a poodle", "a macaw"}),
    ],
)
def test_each_of_two_entities_is_found_once_and_then_twice(find: Find, query: str, things: set[str]) -> None:
    assert Counter(find(query, 2)) == dict.fromkeys(things, 1)
    assert Counter(find(query, 4)) == dict.fromkeys(things, 2)


def test_a_plain_search_finds_one_of_them_only(index: BM25Index) -> None:
    hits = index.search("a poodle and a macaw in the snow", 2, 0, "entity")
    assert len({hit.pair.caption for hit in hits}) == 1


def test_three_entities_take_turns(find: Find) -> None:
    things = {"a poodle", "a macaw", "a red fox"}
    found = find("a macaw, a poodle and a red fox on the beach", 16)
    rounds = [set(found[start : start + 3]) for start in range(0, 9, 3)]
    assert rounds == [things] * STYLES
    # "a fox" is found by the rest of the query only after all three.
    assert found[9:] == ["a fox"] * STYLES


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("a macaw and a unicorn in the snow", ["a macaw"] * STYLES),
        ("a macaw in the snow", ["a macaw"] * STYLES),
        ("a unicorn in the snow", []),
        ("a spaceship made of zzz", []),
        ("the of and", []),
        # Here the query asks only for the snow.
        ("snow", [SCENES[0]] * STYLES + ["a snow leopard"] * STYLES),
    ],
)
def test_a_scene_is_not_an_entity(find: Find, query: str, texts: list[str]) -> None:
    assert sorted(find(query, 8)) == sorted(texts)


def test_no_score_is_below_the_minimum(index: BM25Index) -> None:
    scores = [hit.score for hit in index.search_per_entity("a poodle and a polar bear in the snow", 8, 0, "any")]
    floor = max(scores)
    kept = index.search_per_entity("a poodle and a polar bear in the snow", 8, floor, "any")
    assert min(scores) < floor <= min(hit.score for hit in kept)


def test_entities_are_in_the_order_of_mention(find: Find) -> None:
    assert find("a poodle and a macaw in the snow", 2) == ["a poodle", "a macaw"]
    assert find("a macaw next to a poodle", 2) == ["a macaw", "a poodle"]


def test_a_scene_is_an_entity_if_a_query_names_nothing_else(find: Find) -> None:
    assert find("a macaw on a poodle", 2) == ["a macaw", "a poodle"]
    assert find("a macaw on a panda", 3) == ["a macaw"] * 3


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([word for text in THINGS + SCENES for word in text.split()] + ["zzz"]), max_size=10),
    st.integers(1, 16),
)
def test_no_pair_is_found_twice_and_a_larger_k_finds_more(index: BM25Index, words: list[str], k: int) -> None:
    query = " ".join(words)
    hits = index.search_per_entity(query, k, 0, "entity")
    assert len({hit.pair.id for hit in hits}) == len(hits) <= k
    assert bool(hits) == bool(index.search(query, 1, 0, "entity"))
    assert index.search_per_entity(query.upper(), k + 1, 0, "entity")[:k] == hits
