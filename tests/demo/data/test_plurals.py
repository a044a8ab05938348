"""Plurals, in the real index over all captions of the demonstration."""

from collections.abc import Iterator

import pytest

from reimagen_demo.art.entities import by_name, entities
from reimagen_demo.art.icons import STYLES
from reimagen_demo.art.pairs import PairId
from reimagen_demo.data.plurals import plural
from reimagen_demo.scenes.registry import SCENES, by_phrase
from reimagen_demo.stack.knowledge_base import SCENE_IMAGES
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.pair import StoredPair

MEADOW = by_phrase()["on a green meadow"]
FOX, VIOLIN = by_name()["fox"], by_name()["violin"]


def stored(identifier: str) -> StoredPair:
    return StoredPair(
        id=identifier,
        caption=PairId.parse(identifier).caption,
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
            for number in range(SCENE_IMAGES):
                writer.add(stored(f"scene.{scene.phrase.replace(' ', '-')}.{number}"))
        writer.commit({})
    index = BM25Index(folder)
    yield index
    index.close()


def test_plurals_are_the_singular_to_the_index(index: BM25Index) -> None:
    for entity in entities():
        if word := plural(entity):
            assert index.terms(word) == index.terms(entity.name), word
