"""The client of the retriever, with faulty gRPC servers."""

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reimagen.v1 import retrieval_pb2
from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_generator.generation.retriever_client import Filters, Neighbors, RetrieverClient
from tests.faulty_retriever import Faulty, serving
from tests.waiting import wait_until


class Stuck(Faulty):
    """A retriever that does not answer until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def Search(self, request: Any, context: Any) -> Any:
        self.let_go.wait(60)
        return retrieval_pb2.SearchResponse()


@contextmanager
def connected(address: str) -> Iterator[RetrieverClient]:
    retriever = RetrieverClient(address)
    try:
        yield retriever
    finally:
        retriever.close()


def search(retriever: RetrieverClient, k: int = 2, remaining: float = 60) -> Neighbors:
    return retriever.search("a red panda", k=k, method="bm25", remaining=remaining)


def test_many_large_images_fit_in_an_answer() -> None:
    with serving(Faulty()) as address, connected(address) as retriever:
        found = search(retriever, k=12)
    assert [(neighbor.id, neighbor.caption, neighbor.score) for neighbor in found.neighbors] == [
        ("1", "a red panda", 2.5)
    ] * 12
    assert (found.revision, found.text_only) == ("g1", False)


def test_one_failed_call_is_retried() -> None:
    faulty = Faulty(Unavailable("starting"), Unavailable("starting"), Unavailable("starting"))
    with serving(faulty) as address, connected(address) as retriever:
        assert search(retriever).neighbors
    assert faulty.asked == 4


def test_only_unavailable_is_retried() -> None:
    faulty = Faulty(InvalidArgument("too long", field="query"))
    with serving(faulty) as address, connected(address) as retriever, pytest.raises(InvalidArgument) as refused:
        search(retriever)
    assert refused.value.message == "prompt: too long"
    assert faulty.asked == 1


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("method", "retrieval.method"), ("licenses", "retrieval.licenses"), ("k", "retrieval.k")],
)
def test_a_refusal_by_the_retriever_names_the_callers_field(theirs: str, ours: str) -> None:
    faulty = Faulty(InvalidArgument("is of no use", field=theirs))
    with serving(faulty) as address, connected(address) as retriever, pytest.raises(InvalidArgument) as refused:
        search(retriever)
    assert (refused.value.field, refused.value.message) == (ours, f"{ours}: is of no use")


def test_methods_and_filters_reach_the_retriever() -> None:
    faulty = Faulty()
    filters = Filters(("MIT", ""), ("https://a.example/",), 64, True, ("1", "2"))
    with serving(faulty) as address, connected(address) as retriever:
        retriever.search(
            "a kea",
            k=1,
            method="hybrid",
            minimum_score=0.01,
            relevance="phrase",
            explain=True,
            filters=filters,
            remaining=60,
        )
    assert faulty.last == retrieval_pb2.SearchRequest(
        query="a kea",
        k=1,
        method=retrieval_pb2.METHOD_HYBRID,
        minimum_score=faulty.last.minimum_score,
        relevance=retrieval_pb2.RELEVANCE_PHRASE,
        explain=True,
        filters=retrieval_pb2.Filters(
            licenses=["MIT", ""],
            sources=["https://a.example/"],
            minimum_side=64,
            safe_only=True,
            exclude_ids=["1", "2"],
        ),
    )
    assert faulty.last.minimum_score == pytest.approx(0.01)


def test_a_hanging_retriever_costs_a_share_of_the_deadline() -> None:
    stuck = Stuck()
    started = time.monotonic()
    with serving(stuck) as address, connected(address) as retriever:
        with pytest.raises(Unavailable, match="reimagen-retriever serve"):
            search(retriever, remaining=2)
        assert time.monotonic() - started < 2
        stuck.let_go.set()


def test_a_restarted_retriever_is_found_again() -> None:
    with serving(Faulty()) as address:
        pass
    with connected(address) as retriever:
        with pytest.raises(Unavailable):
            search(retriever)
        with serving(Faulty(), address):

            def found() -> Neighbors | None:
                with contextlib.suppress(Unavailable):
                    return search(retriever)
                return None

            answer = wait_until(found)
            assert answer is not None
            assert answer.neighbors
