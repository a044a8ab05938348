"""The pairs of a base, listed in pages and at random."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.service import RetrievalService

CAPTIONS = {
    "fox 1": "a red fox",
    "fox 2": "a red fox",
    "fox 3": "a red fox",
    "leopard": "a snow leopard",
    "kea": "a kea",
    "meadow": "an empty snowy meadow under a grey sky",
}


@pytest.fixture
def pairs(base: Callable[..., Path]) -> Iterator[RetrievalService]:
    service = RetrievalService(base(CAPTIONS), AnswerCache(None, 100), relevance="entity")
    service.open()
    yield service
    service.close()


def test_pairs_are_listed_in_the_order_of_their_ids(pairs: RetrievalService) -> None:
    pairs.delete_pairs(["fox 2"])
    left = sorted(CAPTIONS.keys() - {"fox 2"})
    pages, after = [], ""
    while True:
        page = pairs.list_pairs(2, after=after)
        assert (page.total, page.revision) == (len(left), pairs.describe().manifest.revision)
        pages.append([pair.id for pair in page.pairs])
        after = pages[-1][-1]
        if not page.has_more:
            break
    assert pages == [left[:2], left[2:4], left[4:]]
    # An id that no pair has, or no longer, is a place in the order too.
    assert [pair.id for pair in pairs.list_pairs(1, after="fox 2").pairs] == ["fox 3"]
    assert [pair.id for pair in pairs.list_pairs(1, after="g").pairs] == ["kea"]
    assert pairs.list_pairs(1, after="zebra").pairs == []


def test_random_pairs_are_present_and_different(pairs: RetrievalService) -> None:
    pairs.delete_pairs(["fox 1", "fox 2"])
    drawn = pairs.list_pairs(100, at_random=True)
    assert sorted(pair.id for pair in drawn.pairs) == sorted(CAPTIONS.keys() - {"fox 1", "fox 2"})
    assert not drawn.has_more
    orders = {tuple(pair.id for pair in pairs.list_pairs(2, at_random=True).pairs) for _ in range(50)}
    assert len(orders) > 1
    pairs.delete_pairs([pair.id for pair in drawn.pairs])
    assert pairs.list_pairs(5).pairs == pairs.list_pairs(5, at_random=True).pairs == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"limit": 0}, "limit: must be 1 to 100, got 0"),
        ({"limit": 101}, "limit: must be 1 to 100, got 101"),
        ({"limit": 1, "after": "a", "at_random": True}, "after: must be unset for random pairs, which have no order"),
        ({"limit": 1, "after": "x" * 513}, "after: must be 1 to 512 bytes of UTF-8"),
    ],
)
def test_a_bad_list_is_refused_by_name(pairs: RetrievalService, values: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        pairs.list_pairs(**values)
    assert caught.value.message == message
