"""REST over a real socket, a real index and a real Redis."""

import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import pytest
from PIL import Image

from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_common.local_redis import LocalRedis
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.server import RetrieverServer
from reimagen_retriever.settings import Settings

CAPTIONS = {"fox": "a red fox", "birds/kea.1": "a kea", "birds/kea 2?#%": "a kea", "../leopard": "a snow leopard"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the images by their ids, from the source of the base."""
    folder = tmp_path_factory.mktemp("source")
    return {identifier: _image(folder / f"{number}.png", number) for number, identifier in enumerate(CAPTIONS)}


def _image(file: Path, number: int) -> bytes:
    Image.new("RGB", (20, 10 + number), (0, 60 * number % 256, 128)).save(file)
    return file.read_bytes()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, images: dict[str, bytes]) -> Path:
    folder = tmp_path_factory.mktemp("base")
    rows = ["image,caption,id,license"]
    for number, (identifier, caption) in enumerate(CAPTIONS.items()):
        (folder / f"{number}.png").write_bytes(images[identifier])
        rows.append(f"{number}.png,{caption},{identifier},MIT")
    (folder / "captions.csv").write_text("\n".join(rows))
    build(open_source(folder), folder / "kb")
    return folder / "kb"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[LocalRedis]:
    with LocalRedis() as local:
        yield local


@pytest.fixture(scope="module")
def service(base: Path, redis_server: LocalRedis) -> Iterator[RetrieverServer]:
    settings = Settings(
        knowledge_base=base,
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        redis_url=redis_server.url,
        concurrent_calls=1,
    )
    service = RetrieverServer(settings)
    service.start()
    yield service
    service.stop(0)


@pytest.fixture(scope="module")
def rest(service: RetrieverServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{service.addresses['http']}", timeout=60) as client:
        yield client


def test_a_search_returns_working_links_to_images(rest: httpx.Client, images: dict[str, bytes]) -> None:
    answer = rest.get("/v1/search", params={"query": "a kea on a roof", "k": 16}).json()
    found = answer["neighbors"]
    assert {(one["id"], one["caption"], one["license"]) for one in found} == {
        ("birds/kea.1", "a kea", "MIT"),
        ("birds/kea 2?#%", "a kea", "MIT"),
    }
    assert [one["rank"] for one in found] == [1, 2]
    for one in found:
        assert httpx.get(one["url"]).content == images[one["id"]]
    again = rest.post("/v1/search", json={"query": "a kea on a roof", "k": 16}).json()
    assert (again.pop("cached"), answer.pop("cached")) == (True, False)
    assert again == answer


def test_per_entity_and_minimum_score_are_passed_on(rest: httpx.Client) -> None:
    both = rest.get("/v1/search", params={"query": "a red fox and a kea", "k": 2, "per_entity": True}).json()
    assert {one["caption"] for one in both["neighbors"]} == {"a red fox", "a kea"}
    missed = rest.post("/v1/search", json={"query": "a kea", "minimum_score": 1000}).json()
    assert (missed["neighbors"], missed["nothing_found"]["field"]) == ([], "minimum_score")
    assert missed["nothing_found"]["nearest"]["caption"] == "a kea"


def test_relevance_is_a_field_and_explained(rest: httpx.Client) -> None:
    asked = {"query": "a fox cub beside a kea", "explain": True}
    assert rest.post("/v1/search", json=asked).json()["nothing_found"]["lacking"] == ["cub"]
    found = rest.post("/v1/search", json=asked | {"relevance": "any"}).json()
    assert ["kea"] in [one["explanation"]["named"] for one in found["neighbors"]]
    assert found["nothing_found"] is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "query"),
        ({"query": " "}, "query"),
        ({"query": "x" * 1_001}, "query"),
        ({"query": "x", "k": 17}, "k"),
        ({"query": "x", "k": "many"}, "k"),
        ({"query": "x", "minimum_score": -1.5}, "minimum_score"),
        ({"query": "\x1c\ufeff"}, "query"),
        ({"query": "x", "sources": ["s" * 1_001]}, "sources.0"),
        ({"query": "x", "sources": ["\u00e9" * 501]}, "sources"),
        ({"query": "x", "limit": 1}, "limit"),
        ({"query": "x", "relevance": "much"}, "relevance"),
    ],
)
def test_bad_input_is_refused_by_its_field(rest: httpx.Client, given: dict[str, Any], field: str) -> None:
    for answer in (rest.get("/v1/search", params=given), rest.post("/v1/search", json=given)):
        assert (answer.status_code, answer.json()["field"]) == (400, field)
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_json_types_are_strict_and_null_means_unset(rest: httpx.Client) -> None:
    for wrong in ({"explain": 1}, {"k": "2"}, {"k": 2.5}, {"query": None}, {"limit": None}):
        refused = rest.post("/v1/search", json={"query": "kea", **wrong})
        assert (refused.status_code, refused.json()["field"]) == (400, next(iter(wrong)))
    nulls = dict.fromkeys(("k", "method", "licenses", "per_entity", "minimum_score"))
    assert rest.post("/v1/search", json={"query": "kea", **nulls}).json()["neighbors"]
    assert len(rest.post("/v1/search", json={"query": "kea", "k": 1.0}).json()["neighbors"]) == 1


def test_the_longest_accepted_source_can_be_searched(rest: httpx.Client) -> None:
    answer = rest.post("/v1/search", json={"query": "kea", "sources": ["s" * 1_000]})
    assert (answer.status_code, answer.json()["neighbors"]) == (200, [])


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/search", "GET, HEAD, POST"),
        ("/v1/pairs", "POST"),
        ("/v1/pairs/fox", "DELETE, GET, HEAD"),
        ("/v1/pairs/fox/image", "GET, HEAD"),
        ("/livez", "GET, HEAD"),
    ],
)
def test_options_lists_all_methods_of_a_path(rest: httpx.Client, path: str, methods: str) -> None:
    for method in ("OPTIONS", "PATCH"):
        answer = rest.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)


@pytest.mark.parametrize("path", ["/v1/search?query=kea", "/v1/pairs/fox", "/v1/pairs/fox/image", "/healthz", "/docs"])
def test_head_equals_get_without_the_body(rest: httpx.Client, path: str) -> None:
    whole, head = rest.get(path), rest.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "etag"):
        assert head.headers.get(name) == whole.headers.get(name)


@pytest.mark.parametrize("identifier", CAPTIONS)
def test_a_pair_with_any_id_is_returned(rest: httpx.Client, images: dict[str, bytes], identifier: str) -> None:
    address = f"/v1/pairs/{quote(identifier, safe='')}"
    pair = rest.get(address).json()
    assert (pair["id"], pair["caption"], pair["media_type"], pair["width"]) == (
        identifier,
        CAPTIONS[identifier],
        "image/png",
        20,
    )
    image = rest.get(f"{address}/image")
    assert (image.content, image.headers["content-type"]) == (images[identifier], "image/png")
    digest = hashlib.sha256(image.content).hexdigest()
    assert (pair["sha256"], image.headers["etag"]) == (digest, f'"{digest}"')
    for tags in (f'"{digest}"', f'"other", W/"{digest}"'):
        assert rest.get(f"{address}/image", headers={"if-none-match": tags}).status_code == 304
    assert rest.get(f"{address}/image", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["no-such-pair", "no-such-pair/image", "%ED%A0%80", "x" * 600, "%00", "%0A", "fox%0A"])
def test_a_missing_pair_is_not_found(rest: httpx.Client, path: str) -> None:
    answer = rest.get(f"/v1/pairs/{path}")
    assert answer.status_code == (400 if len(path) > 512 else 404)
    assert answer.json()["field"] == "id"


def test_slow_bodies_do_not_block_searches(rest: httpx.Client) -> None:
    # There is one slot, and four requests can wait for it.
    slow = [_half_sent(rest) for _ in range(40)]
    assert rest.get("/v1/search", params={"query": "kea"}).status_code == 200
    assert rest.post("/v1/search", json={"query": "kea"}).status_code == 200
    for connection in slow:
        connection.close()


def _half_sent(rest: httpx.Client) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(rest.base_url.host, rest.base_url.port, timeout=60)
    connection.putrequest("POST", "/v1/search")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", "16")
    connection.endheaders(b"{")
    return connection


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/search?query=kea"), ("DELETE", "/v1/pairs/fox"), ("POST", "/v1/pairs")]
)
def test_a_rebound_host_is_refused(rest: httpx.Client, method: str, path: str) -> None:
    headers = {"host": "rebound.example", "origin": "http://rebound.example"}
    assert rest.request(method, path, headers=headers).status_code == 421
    assert rest.get("/v1/pairs/fox").status_code == 200


def test_a_body_too_large_is_refused_before_it_is_read(rest: httpx.Client) -> None:
    connection = http.client.HTTPConnection(rest.base_url.host, rest.base_url.port, timeout=60)
    connection.putrequest("POST", "/v1/search")
    connection.putheader("content-length", str(64 * 1024 * 1024 + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def files(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", ("image.png", image)) for image in images]


def test_pairs_are_added_updated_and_removed(rest: httpx.Client, tmp_path: Path) -> None:
    one, two = (_image(tmp_path / "image.png", number) for number in (100, 101))
    query = {"query": "an okapi", "k": "16"}
    assert rest.get("/v1/search", params=query).json()["neighbors"] == []
    data = {"caption": ["an okapi", "a second okapi"], "id": ["zoo/okapi.1", "zoo/okapi.2"], "license": "MIT"}
    first = rest.post("/v1/pairs", files=files(one, two), data=data).json()
    assert (first["ids"], first["added"], first["rejected"]) == (data["id"], 2, [])
    found = rest.get("/v1/search", params=query).json()
    assert found["revision"] == first["revision"]
    assert [pair["id"] for pair in found["neighbors"]] == data["id"]
    assert {pair["license"] for pair in found["neighbors"]} == {"MIT"}
    again = rest.post("/v1/pairs", files=files(one, two), data=data).json()
    assert (again["added"], again["unchanged"]) == (0, 2)
    swapped = rest.post("/v1/pairs", files=files(two), data={"caption": "an okapi", "id": "zoo/okapi.1"}).json()
    assert (swapped["updated"], rest.get("/v1/pairs/zoo/okapi.1/image").content) == (1, two)
    for identifier in data["id"]:
        assert rest.delete(f"/v1/pairs/{identifier}").json()["removed"] == 1
        missing = rest.delete(f"/v1/pairs/{identifier}")
        assert (missing.status_code, missing.json()["field"]) == (404, "id")
    assert rest.get("/v1/search", params=query).json()["neighbors"] == []
    assert rest.get("/v1/pairs/zoo/okapi.1").status_code == 404


def test_a_pair_without_an_id_gets_one_from_its_image(rest: httpx.Client, tmp_path: Path) -> None:
    image = _image(tmp_path / "image.png", 102)
    name = hashlib.sha256(image).hexdigest()[:32]
    assert rest.post("/v1/pairs", files=files(image), data={"caption": "a tapir"}).json()["ids"] == [name]
    assert rest.get(f"/v1/pairs/{name}").json()["caption"] == "a tapir"
    assert rest.delete(f"/v1/pairs/{name}").status_code == 200


def test_valid_pairs_of_a_request_are_added(rest: httpx.Client, tmp_path: Path) -> None:
    image = _image(tmp_path / "image.png", 103)
    data = {"caption": ["a dik-dik", "a broken one"], "id": ["dik-dik", "broken"]}
    answer = rest.post("/v1/pairs", files=files(image, b"no image"), data=data)
    assert (answer.status_code, answer.json()["added"]) == (200, 1)
    (rejected,) = answer.json()["rejected"]
    assert (rejected["location"], rejected["reason"]) == ("image[1]", "broken image")
    assert rest.delete("/v1/pairs/dik-dik").status_code == 200


@pytest.mark.parametrize(
    ("data", "content", "field"),
    [
        ({"caption": "a kudu"}, [], "image"),
        ({}, [b"x"], "caption"),
        ({"caption": ["a kudu", "another"]}, [b"x"], "caption"),
        ({"caption": "a kudu", "id": ["a", "b"]}, [b"x"], "id"),
        ({"caption": "a kudu", "tag": "x"}, [b"x"], "tag"),
        ({"caption": "a kudu"}, [b"x"], "image[0]"),
        ({"caption": "a kudu"}, [b""], "image[0]"),
        ({"caption": "a kudu", "id": "a\x00b"}, [b"x"], "image[0]"),
    ],
)
def test_pairs_that_cannot_be_added_are_refused_by_their_field(
    rest: httpx.Client, data: dict[str, Any], content: list[bytes], field: str
) -> None:
    answer = rest.post("/v1/pairs", files=files(*content) or {"other": b""}, data=data)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_requests_from_other_origins_change_nothing(rest: httpx.Client, tmp_path: Path) -> None:
    image = _image(tmp_path / "image.png", 104)
    evil = {"origin": "https://example.org"}
    assert rest.post("/v1/pairs", files=files(image), data={"caption": "an ibex"}, headers=evil).status_code == 403
    assert rest.delete("/v1/pairs/fox", headers=evil).status_code == 403
    assert rest.get("/v1/pairs/fox", headers=evil).status_code == 200
    own = {"origin": str(rest.base_url).rstrip("/")}
    added = rest.post("/v1/pairs", files=files(image), data={"caption": "an ibex", "id": "ibex"}, headers=own)
    assert added.status_code == 200
    assert rest.delete("/v1/pairs/ibex", headers=own).status_code == 200


def test_metrics_describe_the_served_base(rest: httpx.Client) -> None:
    text = rest.get("/metrics").text
    for line in ("reimagen_retriever_pairs 4.0", "reimagen_retriever_cache_breaker_open 0.0"):
        assert line in text
    for name in ("used", "committed", "max"):
        assert f'jvm_memory_{name}_bytes{{area="heap"}}' in text
    assert "birds" not in text


def test_it_is_degraded_while_redis_is_down_or_the_base_is_unreadable(
    rest: httpx.Client, base: Path, redis_server: LocalRedis
) -> None:
    assert rest.get("/healthz").json() == {"status": "ready", "reasons": []}
    manifest = base / "manifest.json"
    whole = manifest.read_text()
    redis_server.process.kill()
    redis_server.process.wait()
    manifest.write_text("{")
    try:
        reported = rest.get("/readyz")
        assert (reported.status_code, reported.json()["status"]) == (200, "degraded")
        redis, unreadable = reported.json()["reasons"]
        assert "Redis does not answer" in redis
        assert "cannot be opened" in unreadable
        assert rest.get("/v1/search", params={"query": "kea"}).json()["neighbors"]
    finally:
        manifest.write_text(whole)
        redis_server.start()
    answer = rest.get("/healthz").json()
    assert not any("cannot be opened" in reason for reason in answer["reasons"])


def test_a_search_over_rest_is_filtered_and_explained(rest: httpx.Client) -> None:
    asked: dict[str, Any] = {
        "query": "a kea",
        "k": 4,
        "exclude_ids": ["birds/kea.1", "fox"],
        "licenses": ["MIT", ""],
        "explain": True,
    }
    body = rest.post("/v1/search", json=asked).raise_for_status().json()
    by_address = rest.get("/v1/search", params=asked).raise_for_status().json()
    assert by_address["neighbors"] == body["neighbors"]
    (neighbor,) = body["neighbors"]
    assert neighbor["id"] == "birds/kea 2?#%"
    (term,) = neighbor["explanation"]["terms"]
    assert (term["term"], term["times"], term["score"]) == ("kea", 1, pytest.approx(neighbor["score"]))
    assert neighbor["explanation"]["named"] == ["kea"]
    assert rest.post("/v1/search", json={"query": "a kea"}).json()["neighbors"][0]["explanation"] is None
    for wrong, field in (
        ({"method": "dense"}, "method"),
        ({"method": "guess"}, "method"),
        ({"minimum_side": -1}, "minimum_side"),
        ({"sources": [""]}, "sources.0"),
    ):
        refused = rest.post("/v1/search", json={"query": "a kea", **wrong})
        assert (refused.status_code, refused.json()["field"]) == (400, field)


def test_a_search_over_grpc_is_filtered_and_explained(service: RetrieverServer) -> None:
    with grpc.insecure_channel(service.addresses["grpc"]) as channel:
        stub = RetrievalStub(channel)
        filters = pb.Filters(exclude_ids=["birds/kea.1"], licenses=["MIT"], minimum_side=10)
        asked = pb.SearchRequest(query="kea, kea", k=4, filters=filters, explain=True)
        (neighbor,) = stub.Search(asked).neighbors
        assert neighbor.pair.id == "birds/kea 2?#%"
        (term,) = neighbor.explanation.terms
        assert (term.term, term.times) == ("kea", 2)
        assert term.score == pytest.approx(term.times * term.idf * term.tf, rel=1e-5)
        assert term.score == pytest.approx(neighbor.score, rel=1e-5)
        assert not neighbor.explanation.HasField("cosine")
        assert not stub.Describe(pb.DescribeRequest()).HasField("vectors")
        for method in (pb.METHOD_DENSE, pb.METHOD_HYBRID):
            with pytest.raises(grpc.RpcError, match="method: this knowledge base has no vectors; make them with"):
                stub.Search(pb.SearchRequest(query="kea", method=method))
