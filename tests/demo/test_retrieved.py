"""Neighbors of training samples, found by the real index over all captions of the demonstration."""

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from reimagen_demo.art import STYLES
from reimagen_demo.entities import by_name, entities
from reimagen_demo.knowledge_base import SCENE_PICTURES
from reimagen_demo.pairs import PairId
from reimagen_demo.prompts import Composition, draw_composition, plural, prompt_of
from reimagen_demo.retrieved import choose_neighbors, draw_style, search_index
from reimagen_demo.scenes import SCENES, by_phrase
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.pair import StoredPair

MEADOW = by_phrase()["on a green meadow"]
FOX, VIOLIN = by_name()["fox"], by_name()["violin"]


def stored(identifier: str) -> StoredPair:
    return StoredPair(
        id=identifier,
        contents=PairId.parse(identifier).caption,
        shard="00000.tar",
        offset=0,
        length=1,
        sha256="0" * 64,
        media_type="image/png",
        width=1,
        height=1,
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BM25Index]:
    folder = tmp_path_factory.mktemp("index")
    with IndexWriter(folder) as writer:
        for entity in entities():
            for number, style in enumerate(STYLES):
                writer.add(stored(f"{entity.code}.{number}-{style.name}"))
        for scene in SCENES:
            for number in range(SCENE_PICTURES):
                writer.add(stored(f"scene.{scene.phrase.replace(' ', '-')}.{number}"))
        writer.commit({})
    index = BM25Index(folder)
    yield index
    index.close()


def test_the_entities_that_prompts_name_are_found(index: BM25Index) -> None:
    """In all kinds of prompts together, and every neighbor is one that BM25 has returned."""
    rngs = [Random(seed) for seed in range(1000)]
    shown = [draw_composition(rng, "all", plain=False) for rng in rngs]
    prompts = [prompt_of(rng, composition) for rng, composition in zip(rngs, shown, strict=True)]
    right = Counter[bool]()
    for rng, composition, found in zip(rngs, shown, search_index(index, shown, prompts), strict=True):
        neighbors = choose_neighbors(rng, found)
        assert set(neighbors) <= set(found)
        named = composition.entities if len(composition.entities) == 2 else composition.entities * 2
        showing = [PairId.parse(neighbor).entity for neighbor in neighbors]
        right[len(set(neighbors)) == 2 and Counter(showing) == Counter(named)] += 1
    assert right[True] / 1000 >= 0.99, right


def test_any_style_may_come_first(index: BM25Index) -> None:
    (found,) = search_index(index, [Composition((FOX,), MEADOW)], ["a fox on a green meadow"])
    first = Counter(PairId.parse(choose_neighbors(Random(seed), found)[0]).style for seed in range(200))
    assert set(first) == {style.name for style in STYLES}
    assert min(first.values()) > 25


def test_of_two_entities_each_has_one_neighbor(index: BM25Index) -> None:
    (found,) = search_index(index, [Composition((VIOLIN, FOX), MEADOW)], ["a violin and a fox on a green meadow"])
    for seed in range(20):
        neighbors = choose_neighbors(Random(seed), found)
        assert {PairId.parse(neighbor).entity for neighbor in neighbors} == {VIOLIN, FOX}


def test_what_is_not_in_the_base_has_no_neighbors(index: BM25Index) -> None:
    assert search_index(index, [Composition((FOX,), MEADOW)], ["a zyzzyva on a green meadow"]) == [()]
    assert choose_neighbors(Random(0), ()) == ()


def test_plurals_are_the_singular_to_the_index(index: BM25Index) -> None:
    for entity in entities():
        if word := plural(entity):
            assert index.terms(word) == index.terms(entity.name), word


def test_a_thing_is_drawn_like_its_first_neighbor_mostly_and_at_times_like_neither() -> None:
    first, second = f"{FOX.code}.0-fluent-emoji", f"{FOX.code}.1-noto"
    other = f"{VIOLIN.code}.2-twemoji"
    styles = Counter(draw_style(Random(seed), FOX, [first, second]) for seed in range(2000))
    assert styles["fluent-emoji"] / 2000 == pytest.approx(0.65, abs=0.04)
    assert styles["noto"] / 2000 == pytest.approx(0.2, abs=0.04)
    assert styles["twemoji"] + styles["fluent-emoji-flat"] == 2000 - styles["fluent-emoji"] - styles["noto"]
    # A neighbor that shows something else says nothing of the style.
    assert len({draw_style(Random(seed), FOX, [other]) for seed in range(100)}) == len(STYLES)
