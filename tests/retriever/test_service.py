import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
import redis
from PIL import Image

from reimagen_common.errors import InvalidArgument, NotFound, Unavailable
from reimagen_common.local_redis import LocalRedis
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.search import Search
from reimagen_retriever.service import RetrievalService
from reimagen_retriever.vectors.make import make_vectors

MakeBase = Callable[..., Path]
Opened = Callable[..., RetrievalService]
MakeEncoder = Callable[[Mapping[str, Sequence[float]]], Path]

CAPTIONS = {
    "fox 1": "a red fox",
    "fox 2": "a red fox",
    "fox 3": "a red fox",
    "leopard": "a snow leopard",
    "kea": "a kea",
    "meadow": "an empty snowy meadow under a grey sky",
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalRedis]:
    with LocalRedis() as local:
        yield local


@pytest.fixture
def retriever(server: LocalRedis) -> Iterator[Opened]:
    """Return a function that opens a retriever, with Redis unless disabled: `retriever(folder, cached=False)`."""
    if server.process.poll() is not None:
        server.start()
    opened: list[RetrievalService] = []

    def make(folder: Path, *, cached: bool = True) -> RetrievalService:
        made = RetrievalService(folder, AnswerCache(server.url if cached else None, 100), relevance="entity")
        made.open()
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()


def test_a_cached_answer_equals_the_uncached_one(base: MakeBase, retriever: Opened) -> None:
    folder = base(CAPTIONS)
    cached, uncached = retriever(folder), retriever(folder, cached=False)
    for query in ("a red fox in the snow", "a kea", "a unicorn", "leopard, fox & kea", "?"):
        for minimum_score, per_entity in product((None, 0.0, 1.5), (False, True)):
            search = Search(query, 4, minimum_score=minimum_score, per_entity=per_entity)
            first, second, reference = cached.search(search), cached.search(search), uncached.search(search)
            assert (first.cached, second.cached, reference.cached) == (False, True, False)
            assert list(first.neighbors) == list(second.neighbors) == list(reference.neighbors)
            assert first.revision == second.revision == reference.revision


def test_the_answer_has_the_image_unless_disabled(base: MakeBase, retriever: Opened) -> None:
    serving = retriever(base(CAPTIONS))
    with_images = serving.search(Search("a kea"))
    without = serving.search(Search("a kea", omit_images=True))
    assert with_images.neighbors[0].image.startswith(b"\x89PNG")
    assert without.cached
    assert without.neighbors[0].image == b""
    assert without.neighbors[0].pair == with_images.neighbors[0].pair


def test_equivalent_queries_share_a_cached_answer(base: MakeBase, retriever: Opened) -> None:
    serving = retriever(base({"only here": "a quokka by a river", **CAPTIONS}))
    assert not serving.search(Search("a quokka by the river", 2)).cached
    for same in ("A QUOKKA by the river!", "by a river, a quokka", "  quokkas at the rivers "):
        assert serving.search(Search(same, 2)).cached
    for other in (
        Search("a quokka by the river", 3),
        Search("a quokka by the river", 2, minimum_score=0),
        Search("a quokka by the river", 2, minimum_score=0.5),
        Search("a quokka by the river", 2, per_entity=True),
        Search("a quokka by the river", 2, minimum_score=0, per_entity=True),
        Search("a quokka by the the rivers river", 2),
        Search("a quokka by the", 2),
        Search("a river by the quokka", 2),
        Search("a quokka by the river", 2, relevance="phrase"),
        Search("a quokka by the river", 2, relevance="any", minimum_score=0.1),
    ):
        assert not serving.search(other).cached


def test_filters_and_methods_are_cached_separately(
    base: MakeBase, retriever: Opened, sentence_encoder: MakeEncoder
) -> None:
    folder = base(CAPTIONS)
    make_vectors(folder, sentence_encoder({"kea": [1.0, 0.0], "fox": [0.0, 1.0], "beak": [1.0, 0.1], "a": [0.1, 0.1]}))
    serving, uncached = retriever(folder), retriever(folder, cached=False)
    searches = [
        Search("a kea's beak", 3),
        Search("a kea's beak", 3, filters=Filters(exclude_ids=("kea",))),
        Search("a kea's beak", 3, filters=Filters(licenses=("MIT", ""))),
        Search("a kea's beak", 3, filters=Filters(minimum_side=7)),
        Search("a kea's beak", 3, filters=Filters(sources=("x",))),
        Search("a kea's beak", 3, filters=Filters(safe_only=True)),
        Search("a kea's beak", 3, filters=Filters(keep_duplicates=True)),
        Search("a kea's beak", 3, method="dense"),
        Search("a kea beak's", 3, method="dense"),
        Search("a kea's beak", 3, method="dense", minimum_score=-1),
        Search("a kea's beak", 3, method="hybrid"),
        Search("a kea's beak", 3, method="hybrid", filters=Filters(exclude_ids=("kea",))),
    ]
    for search in searches:
        first, second = serving.search(search), serving.search(search)
        assert (first.cached, second.cached) == (False, True)
        assert list(second.neighbors) == list(first.neighbors) == list(uncached.search(search).neighbors)
    assert [found.pair.id for found in serving.search(searches[7]).neighbors] == ["kea"]
    assert serving.search(searches[1]).neighbors == []
    for same in (Filters(licenses=("", "MIT")), Filters(licenses=("MIT", "", ""))):
        assert serving.search(Search("the KEA'S beak!", 3, filters=same)).cached
    assert serving.search(Search(" a kea's beak\n", 3, method="dense", explain=True)).cached


def test_new_vectors_are_cached_separately(base: MakeBase, retriever: Opened, sentence_encoder: MakeEncoder) -> None:
    folder = base(CAPTIONS)
    serving = retriever(folder)
    search = Search("plumage of the vectors", 1, method="dense", minimum_score=-1)
    with pytest.raises(InvalidArgument, match="method: this knowledge base has no vectors"):
        serving.search(search)
    for thing in ("kea", "leopard", "kea"):
        make_vectors(folder, sentence_encoder({"plumage": [1.0, 0.0], thing: [1.0, 0.0], "a": [0.0, 1.0]}))
        answer = serving.search(search)
        assert [found.pair.caption.split()[-1] for found in answer.neighbors] == [thing]
    assert serving.search(search).cached


def test_a_search_explains_its_scores(base: MakeBase, retriever: Opened, sentence_encoder: MakeEncoder) -> None:
    folder = base(CAPTIONS)
    make_vectors(folder, sentence_encoder({"kea": [1.0, 0.0], "beak": [1.0, 0.0], "a": [0.0, 1.0]}))
    serving = retriever(folder)
    assert serving.search(Search("why kea")).neighbors[0].explanation is None
    for _ in range(2):  # From the cache, too.
        (found,) = serving.search(Search("why a kea", explain=True)).neighbors
        assert found.explanation
        assert [term.term for term in found.explanation.terms] == ["kea"]
        assert found.explanation.terms[0].score == pytest.approx(found.score)
    (found,) = serving.search(Search("beak", 1, method="dense", minimum_score=-1, explain=True)).neighbors
    assert found.explanation
    assert found.explanation.terms == ()
    assert found.explanation.hit.cosine == found.score
    (found,) = serving.search(Search("kea beak", 1, method="hybrid", minimum_score=0, explain=True)).neighbors
    assert found.explanation
    assert (found.explanation.hit.bm25_rank, found.explanation.hit.dense_rank) == (1, 1)
    assert found.score == pytest.approx(2 / 61)


@pytest.mark.parametrize(
    ("search", "field", "reason"),
    [
        (Search("a walrus", 1), "query", "no caption has any word of the query"),
        (Search("the !?", 1), "query", "no caption has any word of the query"),
        (Search("a kea's beak", 1), "relevance", "no caption names 'beak'; the nearest is 'a kea'"),
        (Search("a tiny fox", 1, relevance="phrase"), "relevance", "set relevance to entity to include it"),
        (Search("a kea", 1, minimum_score=50), "minimum_score", "no pair scores 50; the nearest is 'a kea'"),
        (Search("a kea", 1, filters=Filters(licenses=("MIT",))), "licenses", "is left out by licenses"),
        (
            Search("a kea", 1, filters=Filters(safe_only=True, exclude_ids=("kea",), minimum_side=999)),
            "minimum_side",
            "is left out by minimum_side and exclude_ids",
        ),
    ],
)
def test_an_empty_search_says_why(base: MakeBase, retriever: Opened, search: Search, field: str, reason: str) -> None:
    answer = retriever(base(CAPTIONS)).search(search)
    assert not answer.neighbors
    assert answer.nothing_found
    assert answer.nothing_found.field == field
    assert reason in answer.nothing_found.reason


def test_an_answer_is_not_served_after_the_base_has_changed(base: MakeBase, retriever: Opened) -> None:
    serving = retriever(base(CAPTIONS))
    search = Search("a kea on the beach")
    before = serving.search(search)
    assert serving.search(search).cached
    base({"new kea": "a kea", "another kea": "a kea"})
    after = serving.search(search)
    assert not after.cached
    assert after.revision != before.revision
    assert [found.pair.id for found in after.neighbors] == ["another kea", "new kea"]
    assert serving.describe().manifest.pairs == 2
    with pytest.raises(NotFound):
        serving.get_pair("kea")


def test_the_same_content_built_again_keeps_cached_answers(base: MakeBase, retriever: Opened) -> None:
    serving = retriever(base(CAPTIONS))
    search = Search("a fox that was built twice")
    before = serving.search(search)
    base(CAPTIONS)
    after = serving.search(search)
    assert after.cached
    assert list(after.neighbors) == list(before.neighbors)


def test_searches_during_a_replacement_see_one_base(base: MakeBase, retriever: Opened) -> None:
    serving = retriever(base({"a": "a fox of build 0"}))
    over = threading.Event()

    def search_on() -> int:
        searches = 0
        while not over.is_set() or not searches:
            answer = serving.search(Search("a fox", minimum_score=0))
            (found,) = answer.neighbors
            assert found.image.startswith(b"\x89PNG")
            searches += 1
        return searches

    with ThreadPoolExecutor(4) as pool:
        searching = [pool.submit(search_on) for _ in range(4)]
        try:
            for number in range(1, 5):
                base({"a": f"a fox of build {number}"})
                answer = serving.search(Search("a fox", minimum_score=0))
                assert answer.neighbors[0].pair.caption == f"a fox of build {number}"
        finally:
            over.set()
        assert all(future.result() > 0 for future in searching)


def test_files_of_a_replaced_base_are_closed(base: MakeBase, retriever: Opened) -> None:
    folder = base({"a": "a fox"})
    serving = retriever(folder)
    for number in range(3):
        base({"a": f"a kea {number}"})
        serving.search(Search("a kea"))
    held = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [path for path in held if path.startswith(str(folder)) and path.endswith("(deleted)")] == []


@pytest.mark.parametrize("manifest", [None, "{"])
def test_a_lost_or_broken_base_is_still_served(
    base: MakeBase, retriever: Opened, caplog: pytest.LogCaptureFixture, manifest: str | None
) -> None:
    folder = base(CAPTIONS)
    serving = retriever(folder)
    if manifest is None:
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text(manifest)
    for _ in range(3):
        assert serving.search(Search("a kea")).neighbors[0].pair.id == "kea"
    degraded_reasons = [record for record in caplog.records if "serving the old one" in record.message]
    assert len(degraded_reasons) == 1
    base({"b": "a kea"})
    assert serving.search(Search("a kea")).neighbors[0].pair.id == "b"


def test_killing_redis_costs_only_the_cache(base: MakeBase, retriever: Opened, server: LocalRedis) -> None:
    serving = retriever(base(CAPTIONS))
    before = serving.search(Search("a red fox for Redis"))
    assert serving.describe().cache == "up"
    server.process.kill()
    server.process.wait()
    after = serving.search(Search("a red fox for Redis"))
    assert not after.cached
    assert list(after.neighbors) == list(before.neighbors)
    assert serving.describe().cache == "down"


def test_an_invalid_cache_entry_is_replaced(base: MakeBase, retriever: Opened, server: LocalRedis) -> None:
    serving = retriever(base(CAPTIONS))
    first = serving.search(Search("a kea with a broken answer"))
    with redis.Redis.from_url(server.url) as client:
        for key in client.keys("reimagen:*"):
            client.set(key, b'[{"pair": 1}]')
    second = serving.search(Search("a kea with a broken answer"))
    assert not second.cached
    assert list(second.neighbors) == list(first.neighbors)
    assert serving.search(Search("a kea with a broken answer")).cached


def test_a_pair_is_returned_by_its_id(base: MakeBase, retriever: Opened) -> None:
    serving = retriever(base(CAPTIONS))
    found = serving.get_pair("fox 2")
    assert (found.pair.id, found.pair.caption) == ("fox 2", "a red fox")
    assert found.image.startswith(b"\x89PNG")
    with pytest.raises(NotFound, match="id: no pair of the knowledge base has the id 'fox'"):
        serving.get_pair("fox")
    for identifier in ("", "x" * 513):
        with pytest.raises(InvalidArgument, match="id: must be 1 to 512 bytes"):
            serving.get_pair(identifier)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (Search(""), "query: must be 1 to 1,000 characters, got 0"),
        (Search(" \n"), "query: must be 1 to 1,000 characters, got 0"),
        (Search("x" * 1_001), "query: must be 1 to 1,000 characters, got 1,001"),
        (Search("x", k=0), "k: must be 1 to 16, got 0"),
        (Search("x", k=1_000), "k: must be 1 to 16, got 1,000"),
        (Search("x", minimum_score=-1.5), "minimum_score: must be a number of at least -1, got -1.5"),
        (Search("x", minimum_score=float("nan")), "minimum_score: must be a number of at least -1, got nan"),
        (Search("x", minimum_score=float("inf")), "minimum_score: must be a number of at least -1, got inf"),
        (
            Search("x", method="dense", minimum_score=-1.1),
            "minimum_score: must be a number of at least -1, got -1.1",
        ),
        (
            Search("x", method="hybrid", per_entity=True),
            "per_entity: requires method bm25, got hybrid: entities are found by the words of the query",
        ),
        (Search("x", filters=Filters(minimum_side=-1)), "minimum_side: must be 0 to 100,000, got -1"),
    ],
)
def test_values_beyond_the_limits_are_refused_by_name(
    base: MakeBase, retriever: Opened, search: Search, message: str
) -> None:
    serving = retriever(base({"a": "a fox"}), cached=False)
    with pytest.raises(InvalidArgument) as caught:
        serving.search(search)
    assert caught.value.message == message
    with pytest.raises(InvalidArgument) as caught:
        serving.batch_search([Search("a fox"), search])
    assert caught.value.message == f"searches[1].{message}"


def test_a_batch_returns_its_searches_in_order(base: MakeBase, retriever: Opened) -> None:
    serving = retriever(base(CAPTIONS), cached=False)
    searches = [Search("a kea"), Search("a unicorn"), Search("a fox", 3)]
    assert serving.batch_search(searches) == [serving.search(search) for search in searches]
    for number in (0, 65):
        with pytest.raises(InvalidArgument, match=f"searches: must be 1 to 64, got {number}"):
            serving.batch_search([Search("a kea")] * number)


def test_a_batch_too_large_to_send_is_refused(tmp_path: Path, retriever: Opened) -> None:
    source = tmp_path / "large"
    source.mkdir()
    Image.frombytes("RGB", (1_100, 1_100), os.urandom(1_100 * 1_100 * 3)).save(source / "a.png")
    (source / "a.txt").write_text("a large noise")
    build(open_source(source), tmp_path / "kb")
    size = (source / "a.png").stat().st_size
    enough = 64 * 1024 * 1024 // size
    serving = retriever(tmp_path / "kb", cached=False)
    assert len(serving.batch_search([Search("noise", 1)] * enough)) == enough
    with pytest.raises(InvalidArgument, match="searches: the images are too large for one answer"):
        serving.batch_search([Search("noise", 1)] * (enough + 1))
    assert serving.batch_search([Search("noise", 1, omit_images=True)] * (enough + 1))


def test_before_opening_and_after_closing_it_is_unavailable(base: MakeBase) -> None:
    serving = RetrievalService(base({"a": "a fox"}), AnswerCache(None, 1), "entity")
    calls: list[Callable[[], object]] = [
        lambda: serving.search(Search("a fox")),
        lambda: serving.batch_search([Search("a fox")]),
        lambda: serving.get_pair("a"),
        serving.describe,
    ]
    for _ in range(2):
        for call in calls:
            with pytest.raises(Unavailable, match="is not open; try again"):
                call()
        serving.open()
        for call in calls:
            call()
        serving.close()


def test_a_missing_base_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not a complete knowledge base"):
        RetrievalService(tmp_path, AnswerCache(None, 1), "entity").open()
