"""The knowledge base through the generator."""

import io
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from PIL import Image

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.server import GeneratorServer
from reimagen_retriever.server import RetrieverServer
from tests.real_services import serving_cascade, serving_pairs

SEARCH = "/v1/knowledge/search"
PAIRS = "/v1/knowledge/pairs"


def png(color: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGB", (24, 16), color)
    image.paste("white", (0, 0, color[0] // 16, 16))
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetrieverServer]:
    pairs = {
        str(number): (caption, png((80 * number, 120, 40))) for number, caption in enumerate(("a red fox", "a kea"))
    }
    with serving_pairs(tmp_path_factory.mktemp("base"), pairs) as server:
        yield server


@pytest.fixture(scope="module")
def generator(retriever: RetrieverServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GeneratorServer]:
    cascade = Cascade.random(TINY.model_copy(update={"stages": TINY.stages[:1]}), seed=0)
    with serving_cascade(tmp_path_factory.mktemp("tiny"), cascade, retriever.addresses["grpc"]) as server:
        yield server


def add(
    rest: httpx.Client, images: list[bytes], headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    return rest.post(PAIRS, files=[("image", ("a.png", image)) for image in images], data=fields, headers=headers)


def test_a_search_by_query_and_by_body_are_the_same(rest: httpx.Client) -> None:
    found = rest.get(SEARCH, params={"query": "a fox in the snow", "k": 1, "explain": "true", "licenses": ""}).json()
    body = {"query": "a fox in the snow", "k": 1, "explain": True, "licenses": [""]}
    assert rest.post(SEARCH, json=body).json() == found | {"cached": False}
    (neighbor,) = found["neighbors"]
    assert (neighbor["id"], neighbor["caption"], neighbor["rank"]) == ("0", "a red fox", 1)
    assert (neighbor["width"], neighbor["height"], neighbor["explanation"]["named"]) == (24, 16, ["fox"])
    assert rest.get(neighbor["url"]).content == png((0, 120, 40))
    nothing = rest.get(SEARCH, params={"query": "a submarine"}).json()
    assert (nothing["neighbors"], nothing["nothing_found"]["field"]) == ([], "query")


def test_pairs_are_added_read_found_drawn_and_deleted(rest: httpx.Client) -> None:
    images = [png((200, 40, number)) for number in (90, 91)]
    fields: dict[str, Any] = {"caption": ["a blue robot", "a blue robot"], "id": ["r/1", "r2"], "license": "MIT"}
    added = add(rest, images, **fields).json()
    assert (added["ids"], added["added"], added["rejected"]) == (["r/1", "r2"], 2, [])
    assert add(rest, images, **fields).json()["unchanged"] == 2
    pair = rest.get(f"{PAIRS}/r/1").json()
    assert (pair["caption"], pair["license"], pair["media_type"]) == ("a blue robot", "MIT", "image/png")
    assert rest.get(pair["url"]).content == images[0]
    drawn = rest.post("/v1/images/generations", json={"prompt": "a blue robot", "response_format": "url"}).json()
    assert drawn["neighbors"][0]["id"] in added["ids"]
    job = rest.post("/v1/jobs", json={"prompt": "a blue robot", "retrieval": {"explain": True}}).json()
    assert "event: job.completed" in rest.get(f"/v1/jobs/{job['id']}/events").text
    done = rest.get(f"/v1/jobs/{job['id']}").json()
    assert (done["neighbors"][0]["explanation"]["named"], done["text_only"]) == (["blue robot"], False)
    assert rest.get(done["neighbors"][0]["url"]).content in images
    for pair_id in added["ids"]:
        assert rest.delete(f"{PAIRS}/{pair_id}").json()["removed"] == 1
    assert rest.delete(f"{PAIRS}/r2").status_code == 404
    assert rest.get(f"{PAIRS}/r2").status_code == 404
    assert rest.get(SEARCH, params={"query": "a blue robot"}).json()["neighbors"] == []


def test_the_removal_of_a_pair_lists_the_images_that_are_grounded_on_it(rest: httpx.Client) -> None:
    add(rest, [png((230, 9, 99))], caption="a gray heron", id="h/1")
    body = {"prompt": "a gray heron", "size": "16x16", "n": 2, "response_format": "url"}
    linked = rest.post("/v1/images/generations", json=body).json()["data"]
    unused = {"references": [{"pair_id": "h/1", "weight": 0}]}
    rest.post("/v1/images/generations", json=body | unused)
    jobs = [rest.post("/v1/jobs", json=body | change).json()["id"] for change in ({}, unused)]
    for job in jobs:
        assert "event: job.completed" in rest.get(f"/v1/jobs/{job}/events").text
    removed = rest.delete(f"{PAIRS}/h/1")
    uses = removed.json()["uses"]
    assert (uses["images"], uses["has_more"]) == (4, False)
    assert [file["name"] for file in uses["files"]] == [link["url"].rpartition("/")[2] for link in reversed(linked)]
    (use,) = uses["jobs"]
    assert (use["id"], use["owner"], use["status"], use["images"]) == (jobs[0], "", "completed", 2)
    assert "heron" not in removed.text
    assert rest.get("/v1/knowledge/uses/h/1").json() == uses
    assert rest.get("/v1/knowledge/uses/h").json() == {"images": 0, "jobs": [], "files": [], "has_more": False}


def test_pairs_are_listed_in_pages_and_at_random(rest: httpx.Client) -> None:
    first = rest.get(PAIRS, params={"limit": 1}).json()
    assert (first["object"], first["has_more"], first["total"], first["last_id"]) == ("list", True, 2, "0")
    (pair,) = first["data"]
    assert (pair["id"], pair["caption"], pair["width"]) == ("0", "a red fox", 24)
    assert rest.get(pair["url"]).content == png((0, 120, 40))
    second = rest.get(PAIRS, params={"limit": 5, "after": first["last_id"]}).json()
    assert ([one["id"] for one in second["data"]], second["has_more"]) == (["1"], False)
    drawn = rest.get(PAIRS, params={"order": "random"}).json()
    assert sorted(one["id"] for one in drawn["data"]) == ["0", "1"]


def test_pairs_that_are_not_safe_are_left_out_unless_asked_for(
    rest: httpx.Client, retriever: RetrieverServer, generation: GenerationStub
) -> None:
    with grpc.insecure_channel(retriever.addresses["grpc"]) as channel:
        stub = RetrievalStub(channel)
        added = [
            retrieval_pb2.AddPairsRequest(
                id=f"orc/{unsafe}",
                caption="an orc",
                image=png((40 + 200 * number, 99, 9)),
                license="MIT",
                unsafe=unsafe,
            )
            for number, unsafe in enumerate((0.25, 0.75))
        ]
        stub.AddPairs(iter(added))

        def found(**filters: Any) -> list[str]:
            asked = retrieval_pb2.SearchRequest(query="an orc", k=9, filters=retrieval_pb2.Filters(**filters))
            return sorted(one.pair.id for one in stub.Search(asked).neighbors)

        assert found() == found(safe_only=True) == ["orc/0.25"]
        assert found(safe_only=False) == ["orc/0.25", "orc/0.75"]
        stub.DeletePairs(retrieval_pb2.DeletePairsRequest(ids=["orc/0.25"]))
    nothing = rest.get(SEARCH, params={"query": "an orc", "licenses": "MIT"}).json()["nothing_found"]
    assert (nothing["field"], "left out by licenses and safe_only" in nothing["reason"]) == ("licenses", True)
    assert rest.get(SEARCH, params={"query": "an orc"}).json()["nothing_found"]["field"] == "safe_only"
    (orc,) = rest.post(SEARCH, json={"query": "an orc", "safe_only": False}).json()["neighbors"]
    assert (orc["id"], orc["unsafe"]) == ("orc/0.75", 0.75)
    body = {"prompt": "an orc", "size": "16x16"}
    assert rest.post("/v1/images/generations", json=body).json()["neighbors"] == []
    (drawn,) = rest.post("/v1/images/generations", json=body | {"retrieval": {"safe_only": False}}).json()["neighbors"]
    assert drawn["unsafe"] == 0.75
    request = pb.GenerateRequest(prompt="an orc", size=16)
    for safe_only, ids in ((None, []), (False, ["orc/0.75"])):
        request.retrieval.filters.MergeFrom(retrieval_pb2.Filters(safe_only=safe_only))
        (event,) = [one.neighbors for one in generation.Generate(request) if one.HasField("neighbors")]
        assert [one.pair.id for one in event.neighbors] == ids
    assert rest.delete(f"{PAIRS}/orc/0.75").json()["removed"] == 1


def test_bad_pairs_are_named(rest: httpx.Client) -> None:
    mixed = add(rest, [b"no image", png((30, 30, 30))], caption=["a", "a whale"], id=["bad", "whale"]).json()
    assert [(one["location"], one["reason"]) for one in mixed["rejected"]] == [("image.0", "broken image")]
    rest.delete(f"{PAIRS}/whale")
    for response, field in (
        (add(rest, [b"no image"], caption="a"), "image.0"),
        (add(rest, [png((1, 1, 1))]), "caption"),
        (add(rest, [png((1, 1, 1))], caption="a", id=["1", "2"]), "id"),
        (add(rest, [], caption="a"), "body"),
        (add(rest, [png((1, 1, 1))], caption="a", colour="red"), "colour"),
        (rest.get(PAIRS, params={"limit": 101}), "limit"),
        (rest.get(PAIRS, params={"order": "size"}), "order"),
        (rest.get(PAIRS, params={"order": "random", "after": "0"}), "after"),
        (rest.get(SEARCH), "query"),
        (rest.get(SEARCH, params={"query": "x", "k": "17"}), "k"),
        (rest.get(SEARCH, params={"query": "x", "method": "dense"}), "method"),
        (rest.post(SEARCH, json={"query": " "}), "query"),
    ):
        assert (response.status_code, response.json()["field"]) == (400, field), response.text


def test_pages_of_other_sites_change_nothing(rest: httpx.Client) -> None:
    other = {"origin": "https://other.example"}
    own = {"origin": str(rest.base_url).rstrip("/")}
    assert add(rest, [png((1, 1, 1))], other, caption="a").status_code == 403
    assert rest.delete(f"{PAIRS}/0", headers=other).status_code == 403
    for path, name in (("/v1/images/edits", "image"), ("/v1/files", "file")):
        form = {"prompt": "x", "size": "16x16"} if name == "image" else {"purpose": "vision"}
        for headers, status in ((other, 403), (own, 200)):
            sent = rest.post(path, files={name: png((1, 1, 1))}, data=form, headers=headers)
            assert sent.status_code == status, sent.text
