"""References that name pairs of a real knowledge base, and their weights."""

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image, ImageDraw

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.request_handle import Cancelled
from reimagen_generator.generation import provenance
from reimagen_generator.generation.references import References, read_neighbor, with_cut_outs
from reimagen_generator.generation.request_parts import Reference
from reimagen_generator.generation.retriever_client import Neighbor, Neighbors
from reimagen_generator.networks.registry import build_network
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from reimagen_retriever.server import RetrieverServer
from tests.real_services import serving_cascade, serving_pairs

URL = "/v1/images/generations"
SECONDS = 240
PAIRS = {"bird/#1?": "a kea", "animal 2": "a red fox", "3": "a red panda"}


@dataclass(frozen=True)
class Served:
    """A generator with a retriever, and its clients."""

    rest: httpx.Client
    generation: GenerationStub


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGB", (24, 16), (80 * number, 120, 40))
    image.paste("white", (0, 0, 6 * number, 16))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def awakened() -> Cascade:
    """Return the first stage of the tiny cascade with random weights: new networks ignore their neighbors."""
    rng = np.random.default_rng(5)
    network = build_network(TINY.stages[0].network, nnx.Rngs(0))
    state = nnx.state(network, nnx.Param)
    nnx.update(network, jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32), state))
    return Cascade(TINY.model_copy(update={"stages": TINY.stages[:1]}), [network], HashedNgramEncoder())


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetrieverServer]:
    pairs = {pair_id: (caption, png(number)) for number, (pair_id, caption) in enumerate(PAIRS.items())}
    with serving_pairs(tmp_path_factory.mktemp("base"), pairs, license="MIT", source="here") as server:
        yield server


@pytest.fixture(scope="module")
def served(retriever: RetrieverServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tiny")
    with (
        serving_cascade(folder, awakened(), retriever.addresses["grpc"]) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.http_port}", timeout=SECONDS) as rest,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        yield Served(rest, GenerationStub(channel))


def draw(served: Served, **body: Any) -> dict[str, Any]:
    response = served.rest.post(URL, json={"prompt": "a red panda", "seed": 7, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def pixels(answer: dict[str, Any]) -> bytes:
    with Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"]))) as image:
        return image.tobytes()


def test_a_named_pair_is_drawn_as_if_it_were_retrieved(served: Served, tmp_path: Path) -> None:
    retrieved = draw(served, retrieval={"k": 2, "relevance": "any"})
    ids = [neighbor["id"] for neighbor in retrieved["neighbors"]]
    assert len(ids) == 2
    named = draw(served, references=[{"pair_id": pair_id} for pair_id in ids])
    assert pixels(named) == pixels(retrieved)
    searched = {"rank", "score"}
    without_search = [
        {name: value for name, value in one.items() if name not in searched} for one in retrieved["neighbors"]
    ]
    assert named["neighbors"] == without_search
    file = tmp_path / "image.png"
    file.write_bytes(base64.b64decode(named["data"][0]["b64_json"]))
    assert [(source.id, source.license, source.weight) for source in provenance.read(file).neighbors] == [
        (pair_id, "MIT", 1.0) for pair_id in ids
    ]


def test_images_and_pairs_keep_their_order(served: Served) -> None:
    own = {"image": base64.b64encode(png(2)).decode(), "caption": "mine"}
    answer = draw(served, references=[{"pair_id": "3"}, own, {"pair_id": "bird/#1?", "weight": 0.5}])
    assert [neighbor["caption"] for neighbor in answer["neighbors"]] == ["a red panda", "mine", "a kea"]
    form = {"prompt": "a red panda", "seed": "7", "references": '[{"pair_id": "3"}]', "reference_captions": "mine"}
    edited = served.rest.post("/v1/images/edits", data=form, files={"image": png(2)}).json()
    assert [neighbor["caption"] for neighbor in edited["neighbors"]] == ["mine", "a red panda"]
    assert pixels(edited) == pixels(draw(served, references=[own, {"pair_id": "3"}]))


def test_a_reference_of_weight_0_is_ignored_but_reported(served: Served, tmp_path: Path) -> None:
    fox, kea = {"pair_id": "animal 2"}, {"pair_id": "bird/#1?"}
    alone, both = draw(served, references=[fox]), draw(served, references=[fox, kea])
    without = draw(served, references=[kea | {"weight": 0}, fox])
    assert pixels(alone) == pixels(without) != pixels(both)
    assert [neighbor["caption"] for neighbor in without["neighbors"]] == ["a kea", "a red fox"]
    assert without["usage"] == alone["usage"]
    file = tmp_path / "image.png"
    file.write_bytes(base64.b64decode(without["data"][0]["b64_json"]))
    assert [source.id for source in provenance.read(file).neighbors] == ["animal 2"]
    nothing = draw(served, references=[fox | {"weight": 0}])
    assert (nothing["text_only"], nothing["nothing_found"]["field"]) == (True, "references")
    assert pixels(nothing) == pixels(draw(served, retrieval={"k": 0}))


def test_a_weight_counts_like_equal_references(served: Served) -> None:
    fox, kea = {"pair_id": "animal 2"}, {"pair_id": "bird/#1?"}
    images = {
        name: np.frombuffer(pixels(draw(served, references=references)), np.uint8).astype(int)
        for name, references in {
            "weighted": [fox | {"weight": 2}, kea],
            "twice": [fox, fox, kea],
            "once": [fox, kea],
        }.items()
    }
    # The sum over the keys is rounded differently.
    assert np.abs(images["weighted"] - images["twice"]).max() <= 1
    assert np.abs(images["weighted"] - images["once"]).max() > 1


def test_grpc_and_jobs_take_pairs(served: Served) -> None:
    fox = {"pair_id": "animal 2", "weight": 2.0}
    direct = draw(served, references=[fox])
    reference = pb.Reference(pair_id="animal 2", weight=2)
    request = pb.GenerateRequest(prompt="a red panda", seed=7, references=[reference])
    events = list(served.generation.Generate(request, timeout=SECONDS))
    assert base64.b64encode(events[-1].image.image).decode() == direct["data"][0]["b64_json"]
    neighbor = events[1].neighbors.neighbors[0]
    assert (neighbor.pair.id, neighbor.pair.caption, neighbor.rank) == ("animal 2", "a red fox", 0)

    created = served.rest.post("/v1/jobs", json={"prompt": "a red panda", "seed": 7, "references": [fox]}).json()
    list(served.generation.WatchJob(pb.WatchJobRequest(id=created["id"]), timeout=SECONDS))
    job = served.rest.get(f"/v1/jobs/{created['id']}").json()
    assert job["status"] == "completed", job
    assert job["request"]["references"] == [fox | {"cut_out": False}]
    assert (job["neighbors"][0]["caption"], "rank" in job["neighbors"][0]) == ("a red fox", False)
    assert served.rest.get(job["data"][0]["url"]).content == events[-1].image.image
    message = served.generation.GetJob(pb.GetJobRequest(id=created["id"]))
    assert list(message.request.references) == [reference]


def test_an_unknown_pair_is_named(served: Served) -> None:
    body = {"prompt": "x", "references": [{"pair_id": "3"}, {"pair_id": "no such pair"}]}
    for url in (URL, "/v1/jobs"):
        refused = served.rest.post(url, json=body)
        assert (refused.status_code, refused.json()["field"]) == (400, "references.1.pair_id"), url
    form = {"prompt": "x", "references": json.dumps(body["references"])}
    refused = served.rest.post("/v1/images/edits", data=form, files={"image": png(0)})
    assert (refused.status_code, refused.json()["field"]) == (400, "references.1.pair_id")
    request = pb.GenerateRequest(prompt="x", references=[pb.Reference(pair_id="no such pair")])
    with pytest.raises(grpc.RpcError) as error:
        list(served.generation.Generate(request, timeout=SECONDS))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error.value.details()).startswith("references.0.pair_id: no pair of the knowledge base has this id")


def disc() -> bytes:
    """Return a disc in the corner of a plain image, which needs no network to be cut out."""
    buffer = io.BytesIO()
    image = Image.new("RGB", (64, 48), "white")
    ImageDraw.Draw(image).ellipse((2, 2, 26, 26), "red")
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_cut_out_is_what_was_shown_before(served: Served, tmp_path: Path) -> None:
    own = {"image": base64.b64encode(disc()).decode(), "caption": "a disc"}
    shown = served.rest.post("/v1/images/cut-outs", json=own).json()
    assert set(shown) == {"b64_json"}
    by_grpc = served.generation.CutOut(pb.CutOutRequest(reference=pb.Reference(image=disc(), caption="a disc")))
    assert (base64.b64encode(by_grpc.image).decode(), by_grpc.warning) == (shown["b64_json"], "")

    cut = draw(served, references=[own | {"cut_out": True}])
    assert cut["neighbors"] == [{"caption": "a disc", "cut_out": True, "b64_json": shown["b64_json"]}]
    as_shown = draw(served, references=[{"image": shown["b64_json"], "caption": "a disc"}])
    assert pixels(cut) == pixels(as_shown) != pixels(draw(served, references=[own]))

    file = tmp_path / "image.png"
    file.write_bytes(base64.b64decode(cut["data"][0]["b64_json"]))
    origin = provenance.read(file)
    assert [source.cut_out for source in origin.neighbors] == [True]
    assert origin.to_request()["references"] == [{"caption": "a disc", "cut_out": True}]
    assert b"<reimagen:CutOut>True</reimagen:CutOut>" in file.read_bytes()
    verified = served.rest.post("/v1/verify", files={"image": file.read_bytes()}).json()
    assert verified["generation"]["neighbors"][0]["cut_out"] is True


def test_uploads_forms_grpc_and_jobs_cut_out(served: Served) -> None:
    own = {"image": base64.b64encode(disc()).decode(), "caption": "a disc", "cut_out": True}
    expected = draw(served, references=[own])
    upload = served.rest.post("/v1/files", files={"file": disc()}, data={"purpose": "vision"}).json()["id"]
    by_id = {"id": upload, "caption": "a disc"}
    assert pixels(draw(served, references=[by_id | {"cut_out": True}])) == pixels(expected)
    assert (
        served.rest.post("/v1/images/cut-outs", json=by_id).json()["b64_json"] == expected["neighbors"][0]["b64_json"]
    )
    form = {"prompt": "a red panda", "seed": "7", "reference_captions": "a disc", "reference_cut_outs": "true"}
    edited = served.rest.post("/v1/images/edits", data=form, files={"image": disc()}).json()
    assert pixels(edited) == pixels(expected)

    reference = pb.Reference(image=disc(), caption="a disc", cut_out=True)
    request = pb.GenerateRequest(prompt="a red panda", seed=7, references=[reference])
    events = list(served.generation.Generate(request, timeout=SECONDS))
    assert base64.b64encode(events[-1].image.image).decode() == expected["data"][0]["b64_json"]
    assert list(events[1].neighbors.cut_outs) == [pb.GenerateEvent.CutOut(neighbor=0)]

    created = served.rest.post("/v1/jobs", json={"prompt": "a red panda", "seed": 7, "references": [own]}).json()
    list(served.generation.WatchJob(pb.WatchJobRequest(id=created["id"]), timeout=SECONDS))
    job = served.rest.get(f"/v1/jobs/{created['id']}").json()
    assert job["neighbors"] == [{"caption": "a disc", "cut_out": True}]
    assert job["request"]["references"] == [{"caption": "a disc", "weight": 1.0, "cut_out": True}]
    assert served.rest.get(job["data"][0]["url"]).content == events[-1].image.image


def test_a_pair_is_cut_out_and_still_credited(served: Served) -> None:
    [neighbor] = draw(served, references=[{"pair_id": "3", "cut_out": True}], response_format="url")["neighbors"]
    assert (neighbor["id"], neighbor["license"], neighbor["cut_out"]) == ("3", "MIT", True)
    shown = served.rest.post("/v1/images/cut-outs", json={"pair_id": "3"}).json()
    assert neighbor["b64_json"] == shown["b64_json"]


def test_an_image_that_cannot_be_cut_out_is_used_as_it_is_with_a_warning(served: Served) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(buffer, "PNG")
    plain = {"image": base64.b64encode(buffer.getvalue()).decode(), "caption": "teal"}
    warning = "no object was found in the image, so it is used as it is"
    assert served.rest.post("/v1/images/cut-outs", json=plain).json() == {"warning": warning}
    answer = draw(served, references=[plain | {"cut_out": True}])
    assert answer["neighbors"] == [{"caption": "teal", "warning": warning}]
    assert pixels(answer) == pixels(draw(served, references=[plain]))
    request = pb.GenerateRequest(prompt="teal")
    request.references.add(image=buffer.getvalue(), caption="teal", cut_out=True)
    neighbors = next(event.neighbors for event in served.generation.Generate(request) if event.HasField("neighbors"))
    assert list(neighbors.cut_outs) == [pb.GenerateEvent.CutOut(neighbor=0, warning=warning)]


def test_an_ignored_reference_is_not_cut_out(served: Served) -> None:
    own = {"image": base64.b64encode(disc()).decode(), "caption": "a disc", "weight": 0.0, "cut_out": True}
    answer = draw(served, references=[{"pair_id": "3"}, own])
    assert answer["neighbors"][1] == {"caption": "a disc"}
    assert pixels(answer) == pixels(draw(served, references=[{"pair_id": "3"}]))


def test_a_cancelled_request_cuts_no_further_reference_out() -> None:
    image = base64.b64encode(disc()).decode()
    requested = [Reference.model_validate({"image": image, "caption": "x", "cut_out": True})] * 3
    neighbors = [Neighbor(disc(), "x")] * 3
    references = References(Neighbors(neighbors), [read_neighbor(neighbor) for neighbor in neighbors])
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        with_cut_outs(references, requested, check)
    assert checks == 2


def test_the_field_of_an_invalid_cut_out_is_named(served: Served) -> None:
    for body, field in (
        ({"image": base64.b64encode(b"no image").decode(), "caption": "x"}, "image"),
        ({"pair_id": "no such pair"}, "pair_id"),
        ({"id": "file-unknown", "caption": "x"}, "id"),
        ({"caption": "x"}, "image"),
    ):
        refused = served.rest.post("/v1/images/cut-outs", json=body)
        assert (refused.status_code, refused.json()["field"]) == (400, field), body
    with pytest.raises(grpc.RpcError) as error:
        served.generation.CutOut(pb.CutOutRequest())
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error.value.details()).startswith("image: is required")
