"""What the operator does not allow, through REST and gRPC, with a blocklist and a hook over HTTP."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import httpx
import openai
import pytest
from PIL import Image

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_client import Client
from reimagen_client.errors import InvalidRequest
from reimagen_client.grpc_client import GrpcClient
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.server import GeneratorServer
from tests.real_services import serving_cascade, serving_pairs

GENERATIONS, EDITS, JOBS = "/v1/images/generations", "/v1/images/edits", "/v1/jobs"
SEARCH, PAIRS = "/v1/knowledge/search", "/v1/knowledge/pairs"
CAPTIONS = {
    "fox": "a red fox",
    "gore": "a red fox in GORE",
    "stock": "a red fox from a stock library",
    "kea": "a stock kea",
}


class Judge(ThreadingHTTPServer):
    """A hook that refuses submarines, captions with `stock`, and each prompt with `once` from the second time on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.questions: list[dict[str, Any]] = []
        self.status = 200

    def judge(self, question: dict[str, Any]) -> dict[str, Any]:
        text = question["prompt"] if question["kind"] == "prompt" else question["caption"]
        again = "once" in text and question in self.questions
        self.questions.append(question)
        return {"allowed": not (again or "submarine" in text or "stock" in text), "reason": "by our terms"}


class Handler(BaseHTTPRequestHandler):
    server: Judge

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(self.server.judge(question)).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGB", (24, 16), (shade, 120, 40))
    image.paste("white", (0, 0, shade // 16, 16))
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    server = Judge()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def generator(judge: Judge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GeneratorServer]:
    folder = tmp_path_factory.mktemp("tiny")
    blocklist = folder / "blocklist.txt"
    blocklist.write_text("# violence\ngore\nsevered head\n")
    pairs = {pair_id: (caption, png(60 * number)) for number, (pair_id, caption) in enumerate(CAPTIONS.items())}
    cascade = Cascade.random(TINY.model_copy(update={"stages": TINY.stages[:1]}), seed=0)
    with (
        serving_pairs(tmp_path_factory.mktemp("base"), pairs) as retriever,
        serving_cascade(
            folder,
            cascade,
            retriever.addresses["grpc"],
            blocklist=blocklist,
            moderation_hook=f"http://127.0.0.1:{judge.server_port}/",
        ) as server,
    ):
        yield server


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    return response.status_code, body["error"]["code"], body["field"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": "a fox with a Séve\u200bred-head"}, "prompt"),
        ({"prompt": "a submarine"}, "prompt"),
        ({"negative_prompt": "gore"}, "negative_prompt"),
        ({"references": [{"pair_id": "fox"}, {"pair_id": "gore"}]}, "references.1.pair_id"),
        ({"references": [{"pair_id": "stock"}]}, "references.0.pair_id"),
    ],
)
@pytest.mark.parametrize("path", [GENERATIONS, JOBS])
def test_a_refused_request_is_a_clear_error(path: str, fields: dict[str, Any], field: str, rest: httpx.Client) -> None:
    response = rest.post(path, json={"prompt": "a fox", **fields})
    assert refusal(response) == (400, "content_policy_violation", field)
    assert "the operator of this service" in response.json()["detail"]


def test_captions_of_references_are_checked(rest: httpx.Client) -> None:
    images = [("image[]", ("a.png", png(1))), ("image[]", ("b.png", png(2)))]
    for caption in ("gore", "a stock photo"):
        form = {"prompt": "a fox", "reference_captions": ["a fox", caption], "size": "16x16"}
        assert refusal(rest.post(EDITS, files=images, data=form)) == (
            400,
            "content_policy_violation",
            "reference_captions.1",
        )
    assert refusal(rest.post(EDITS, files=images, data={"prompt": "gore"}))[2] == "prompt"


def test_the_clients_of_openai_and_of_grpc_get_the_code(generator: GeneratorServer, generation: GenerationStub) -> None:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{generator.http_port}/v1", api_key="any")
    with client, pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(prompt="gore")
    assert (raised.value.code, raised.value.param) == ("content_policy_violation", "prompt")
    with pytest.raises(grpc.RpcError) as caught:
        generation.CreateJob(pb.CreateJobRequest(request=pb.GenerateRequest(prompt="gore")))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    metadata = {item.key: str(item.value) for item in caught.value.trailing_metadata()}
    assert metadata["reimagen-code"] == "content_policy_violation"
    client_of_ours = GrpcClient(f"127.0.0.1:{generator.grpc_port}")
    with client_of_ours as ours, pytest.raises(InvalidRequest, match="severed") as refused:
        ours.generate("a severed head", negative_prompt="gore")
    assert (refused.value.code, refused.value.field) == ("content_policy_violation", "prompt")


def test_refused_neighbors_are_left_out_and_named(rest: httpx.Client, generation: GenerationStub, judge: Judge) -> None:
    body = {"prompt": "a red fox", "size": "16x16", "retrieval": {"k": 3}}
    answer = rest.post(GENERATIONS, json=body).json()
    assert [neighbor["id"] for neighbor in answer["neighbors"]] == ["fox"]
    reasons = {pair["id"]: pair["reason"] for pair in answer["refused"]}
    assert reasons == {
        "gore": "contains 'gore', which the operator of this service does not allow",
        "stock": "is not allowed by the operator of this service: by our terms",
    }
    asked = [question for question in judge.questions if question["kind"] == "pair" and "stock" in question["caption"]]
    assert set(asked[-1]) == {"kind", "caption", "source", "license", "image"}
    job = rest.post(JOBS, json=body).json()
    assert "event: job.completed" in rest.get(f"{JOBS}/{job['id']}/events").text
    assert rest.get(f"{JOBS}/{job['id']}").json()["refused"] == answer["refused"]
    request = pb.GenerateRequest(prompt="a red fox", size=16, retrieval=pb.GenerateRequest.Retrieval(k=3))
    (neighbors,) = [event.neighbors for event in generation.Generate(request) if event.HasField("neighbors")]
    assert {pair.id: pair.reason for pair in neighbors.refused} == reasons


def test_a_search_says_which_pairs_would_be_left_out_if_it_is_asked_to(rest: httpx.Client, judge: Judge) -> None:
    body = {"query": "a red fox", "k": 3}
    asked = len(judge.questions)
    found = rest.post(SEARCH, json=body).json()["neighbors"]
    assert len(judge.questions) == asked
    assert [pair.get("refused") for pair in found] == [None] * 3
    drawn = rest.post(GENERATIONS, json={"prompt": "a red fox", "size": "16x16", "retrieval": {"k": 3}}).json()
    reasons = {pair["id"]: pair["reason"] for pair in drawn["refused"]}
    checked = rest.post(SEARCH, json=body | {"check_policy": True}).json()["neighbors"]
    assert [pair["id"] for pair in checked] == [pair["id"] for pair in found]
    assert {pair["id"]: pair["refused"] for pair in checked if "refused" in pair} == reasons
    assert judge.questions[-1]["image"]
    with Client(str(rest.base_url) + "/v1") as client:
        by_client = client.knowledge.search("a red fox", k=3, check_policy=True).neighbors
    assert {pair.id: pair.refused for pair in by_client if pair.refused} == reasons


def test_without_any_allowed_neighbor_the_prompt_alone_is_drawn(rest: httpx.Client) -> None:
    answer = rest.post(GENERATIONS, json={"prompt": "a kea", "size": "16x16"}).json()
    assert (answer["text_only"], answer["neighbors"], [pair["id"] for pair in answer["refused"]]) == (True, [], ["kea"])
    assert "allows none of the neighbors" in answer["nothing_found"]["reason"]


def test_a_job_is_checked_again_when_it_is_drawn(rest: httpx.Client) -> None:
    job = rest.post(JOBS, json={"prompt": "a fox, once", "size": "16x16"}).json()
    assert "event: job.failed" in rest.get(f"{JOBS}/{job['id']}/events").text
    error = rest.get(f"{JOBS}/{job['id']}").json()["error"]
    assert (error["code"], error["param"]) == ("content_policy_violation", "prompt")


def test_refused_pairs_are_not_added(rest: httpx.Client) -> None:
    files = [("image", ("a.png", image)) for image in (png(201), b"no image", png(203))]
    form = {"caption": ["gore", "a broken image", "a badger"], "id": ["p0", "p1", "p2"]}
    added = rest.post(PAIRS, files=files, data=form).json()
    assert added["added"] == 1
    assert sorted((one["location"], one["reason"]) for one in added["rejected"]) == [
        ("image.0", "not allowed"),
        ("image.1", "broken image"),
    ]
    assert rest.delete(f"{PAIRS}/p2").json()["removed"] == 1
    all_refused = rest.post(PAIRS, files=files[:1], data={"caption": "stock", "id": "p0"})
    assert refusal(all_refused) == (400, "content_policy_violation", "image.0")
    assert rest.get(f"{PAIRS}/p0").status_code == 404


def test_nothing_is_drawn_while_the_hook_fails(rest: httpx.Client, judge: Judge) -> None:
    judge.status = 500
    try:
        response = rest.post(GENERATIONS, json={"prompt": "a fox", "size": "16x16"})
        added = rest.post(PAIRS, files={"image": ("a.png", png(9))}, data={"caption": "a fox", "id": "p9"})
        checked = rest.get(SEARCH, params={"query": "a red fox", "check_policy": "true"})
    finally:
        judge.status = 200
    assert (checked.status_code, checked.json()["field"]) == (503, "check_policy")
    assert (response.status_code, "retry-after" in response.headers, added.status_code) == (503, True, 503)
    assert rest.get(f"{PAIRS}/p9").status_code == 404
