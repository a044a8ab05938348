"""The whole path through real processes: prompt, Lucene, gRPC, cascade, REST, an image with its provenance."""

import base64
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from safetensors.numpy import load_file, save_file

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.drawing import BatchDrawer
from reimagen_evaluation.grounding import Grounding
from reimagen_evaluation.runs import Run
from reimagen_evaluation.setting import Setting
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.generation import provenance
from reimagen_generator.generation.retriever_client import RetrieverClient
from tests.waiting import LoggedProcess

SECONDS = 240
URL = "/v1/images/generations"
ENTITIES = {"red panda": (200, 90, 40), "blue whale": (40, 90, 200), "lemon": (240, 220, 60), "panda": (90, 60, 50)}
STYLES = ("flat", "round")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FREE_PORTS = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")


class Process(LoggedProcess):
    """A service in its own process."""

    def __init__(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> None:
        program = Path(sys.executable).with_name(str(command[0]))
        super().__init__([program, *command[1:]], {"PYTHONFAULTHANDLER": "1"} | dict(environment or {}))

    def ready(self) -> dict[str, str]:
        """Wait for the log line `ready`, and return its fields."""
        return dict(field.split("=", 1) for field in self.wait_for_line(r".* msg=ready .*")[0].split())

    def stop(self) -> int:
        """Stop the process with SIGTERM, and return its exit status."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGABRT)  # Python writes the stack of each thread to the log.
            self.popen.wait(SECONDS)
            pytest.fail(self.log)


@dataclass
class Running:
    """A generator and its retriever, with a REST and a gRPC client."""

    rest: httpx.Client
    generation: GenerationStub
    grpc_address: str
    retriever: Process
    retriever_address: str
    restart_retriever: Callable[[], Process]
    images: dict[str, bytes]
    generator: Process


def write_pairs(folder: Path) -> dict[str, bytes]:
    """Write a source of pairs, and return its images by their ids."""
    images = {}
    with (folder / "captions.jsonl").open("w") as captions:
        for entity, color in ENTITIES.items():
            for number, style in enumerate(STYLES):
                file, key = folder / f"{entity}-{style}.png", f"{entity}/#{style}?"
                picture = Image.new("RGB", (48, 40), color)
                picture.paste("white", (0, 0, 24 * number, 20))  # otherwise all but the first are near-duplicates
                picture.save(file)
                images[key] = file.read_bytes()
                row = {"image": file.name, "caption": f"a {entity}", "id": key, "license": "MIT", "source": style}
                captions.write(json.dumps(row) + "\n")
    return images


def save(config: CascadeConfig, folder: Path) -> Path:
    Cascade.random(config, seed=0).save(folder)
    # Neighbors pass through weights that start at zero: they are set as if trained.
    noise = np.random.default_rng(0)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        learned = {name: noise.normal(0, 0.1, tensor.shape).astype(tensor.dtype) for name, tensor in tensors.items()}
        save_file({name: tensor + learned[name] for name, tensor in tensors.items()}, file)
    return folder


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, collector: Any) -> Iterator[Running]:
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    folder = tmp_path_factory.mktemp("path")
    environment = traced | {"REIMAGEN_GENERATOR_JOBS": str(folder / "jobs")}
    source = folder / "source"
    source.mkdir()
    images = write_pairs(source)
    base = folder / "base"
    build = Path(sys.executable).with_name("reimagen-retriever")
    subprocess.run([build, "build", source, base], check=True, capture_output=True)
    weights = save(TINY.model_copy(update={"relevant_only": True}), folder / "weights")
    with contextlib.ExitStack() as stack:

        def start(*command: str | Path) -> Process:
            return stack.enter_context(Process(*command, environment=environment))

        def start_retriever(address: str) -> Process:
            return start("reimagen-retriever", "serve", base, "--grpc", address)

        retriever = start_retriever("127.0.0.1:0")
        address = retriever.ready()["grpc"]
        generator = start("reimagen-generator", "serve", "--weights", weights, "--retriever", address, *FREE_PORTS)
        ports = generator.ready()
        grpc_address = f"127.0.0.1:{ports['grpc_port']}"
        channel = stack.enter_context(grpc.insecure_channel(grpc_address))
        rest = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{ports['http_port']}", timeout=SECONDS))
        restart = partial(start_retriever, address)
        path = Running(rest, GenerationStub(channel), grpc_address, retriever, address, restart, images, generator)
        yield path
        assert generator.stop() == 0
        assert path.retriever.stop() == 0


def draw(path: Running, **body: Any) -> dict[str, Any]:
    response = path.rest.post(URL, json={"prompt": "a red panda in the snow", "size": "64x64", "seed": 7, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def pixels(answer: dict[str, Any]) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"]))) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("client", ["rest.py", "curl.sh", "grpc_client.py", "job.py", "job.sh"])
def test_the_examples_run(path: Running, tmp_path: Path, client: str) -> None:
    program = sys.executable if client.endswith(".py") else "sh"
    addresses = {"REIMAGEN_URL": str(path.rest.base_url), "REIMAGEN_GRPC": path.grpc_address}
    command = [program, str(EXAMPLES / client), "a red panda in the snow", str(tmp_path / "panda.png")]
    done = subprocess.run(command, env=os.environ | addresses, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"red panda/#{style}?: a red panda (MIT)" for style in STYLES[:2]]
    with Image.open(tmp_path / "panda.png") as image:
        assert image.size == (64, 64)


def test_a_prompt_becomes_an_image_that_names_its_neighbors(path: Running, tmp_path: Path) -> None:
    answer = draw(path)
    assert not answer["text_only"]
    assert answer["revision"]
    neighbors = answer["neighbors"]
    assert [neighbor["caption"] for neighbor in neighbors] == ["a red panda"] * 2
    assert [(neighbor["rank"], neighbor["license"]) for neighbor in neighbors] == [(1, "MIT"), (2, "MIT")]
    assert {neighbor["id"] for neighbor in neighbors} == {"red panda/#flat?", "red panda/#round?"}
    assert all(base64.b64decode(neighbor["b64_json"]) == path.images[neighbor["id"]] for neighbor in neighbors)

    file = tmp_path / "image.png"
    file.write_bytes(base64.b64decode(answer["data"][0]["b64_json"]))
    origin = provenance.read(file)
    assert (origin.prompt, origin.seed, origin.cascade) == ("a red panda in the snow", 7, "tiny")
    assert origin.revision == answer["revision"]
    assert [(source.id, source.caption, source.source, source.license) for source in origin.neighbors] == [
        (neighbor["id"], neighbor["caption"], neighbor["source"], neighbor["license"]) for neighbor in neighbors
    ]


def test_the_same_seed_gives_the_same_image_over_rest_and_grpc(path: Running) -> None:
    once, again = draw(path), draw(path)
    request = pb.GenerateRequest(prompt="a red panda in the snow", size=64, seed=7)
    events = list(path.generation.Generate(request, timeout=SECONDS))
    assert once["data"] == again["data"]
    assert base64.b64encode(events[-1].image.image).decode() == once["data"][0]["b64_json"]
    assert [neighbor.pair.id for neighbor in events[1].neighbors.neighbors] == [
        neighbor["id"] for neighbor in once["neighbors"]
    ]


def test_per_entity_finds_a_neighbor_for_each_entity(path: Running) -> None:
    prompt = "a lemon and a red panda in the snow"
    assert len({neighbor["caption"] for neighbor in draw(path, prompt=prompt)["neighbors"]}) == 1
    answer = draw(path, prompt=prompt, retrieval={"k": 2, "per_entity": True})
    assert {neighbor["caption"] for neighbor in answer["neighbors"]} == {"a lemon", "a red panda"}
    retrieval = pb.GenerateRequest.Retrieval(k=2, per_entity=True)
    request = pb.GenerateRequest(prompt=prompt, size=64, seed=7, retrieval=retrieval)
    events = list(path.generation.Generate(request, timeout=SECONDS))
    assert [found.pair.id for found in events[1].neighbors.neighbors] == [found["id"] for found in answer["neighbors"]]
    assert base64.b64encode(events[-1].image.image).decode() == answer["data"][0]["b64_json"]


def test_a_neighbor_that_adds_no_word_of_the_prompt_is_left_out(path: Running) -> None:
    with contextlib.closing(RetrieverClient(path.retriever_address)) as retriever:
        found = retriever.search("a red panda in the snow", k=4, method="bm25", remaining=SECONDS)
    assert [neighbor.caption for neighbor in found.neighbors] == ["a red panda"] * 2 + ["a panda"] * 2
    assert [neighbor["caption"] for neighbor in draw(path, retrieval={"k": 4})["neighbors"]] == ["a red panda"] * 2


def test_an_evaluation_filters_neighbors_like_the_service(path: Running, tmp_path: Path) -> None:
    items = [Item(key, f"a {name}", (name,), "", "things") for key, name in (("1", "lemon"), ("2", "red panda"))]
    weights = save(TINY.model_copy(update={"relevant_only": True}), tmp_path / "weights")
    asked = {"as served": None, "all": False}
    with contextlib.closing(RetrieverClient(path.retriever_address)) as retriever:
        grounding = Grounding(items, {"base": retriever})
        for name, only in asked.items():
            setting = Setting(weights=weights, size=16, neighbors="base", k=2, unrelated=1, relevant_only=only)
            run, drawer = Run(tmp_path / name, setting), BatchDrawer.load(weights)
            run.draw(items, samples=1, drawer=drawer, grounding=grounding, batch_size=2, done=lambda _: None)
    origins = {name: provenance.read(tmp_path / name / "images" / "1.0.png") for name in asked}
    texts = {name: [source.caption for source in origin.neighbors] for name, origin in origins.items()}
    assert texts == {"as served": ["a lemon"], "all": ["a lemon", "a red panda"]}


def test_neighbors_change_the_image(path: Running) -> None:
    grounded, alone = draw(path), draw(path, retrieval={"k": 0})
    assert (alone["text_only"], alone["neighbors"]) == (True, [])
    assert not np.array_equal(pixels(grounded), pixels(alone))
    references = [
        {"image": base64.b64encode(image).decode(), "caption": "a red panda"} for image in path.images.values()
    ]
    assert not np.array_equal(pixels(grounded), pixels(draw(path, references=references)))


def test_an_unknown_entity_is_drawn_from_the_text_alone(path: Running) -> None:
    answer = draw(path, prompt="zyzzyva quux")
    assert (answer["text_only"], answer["neighbors"]) == (True, [])
    assert answer["revision"]
    assert answer["nothing_found"] == {
        "reason": "no caption has any word of the query",
        "field": "prompt",
        "lacking": [],
    }
    assert draw(path, retrieval={"k": 0})["nothing_found"]["field"] == "retrieval.k"


def test_a_text_only_image_names_the_field_that_helps(path: Running) -> None:
    asked: dict[str, Any] = {"prompt": "a unicorn with a lemon", "size": "16x16", "retrieval": {"explain": True}}
    nothing = draw(path, **asked)["nothing_found"]
    assert (nothing["field"], nothing["nearest"], nothing["lacking"]) == ("retrieval.relevance", "a lemon", ["unicorn"])
    asked["retrieval"] |= {"relevance": "any", "k": 1}
    answer = draw(path, **asked)
    assert "nothing_found" not in answer
    (neighbor,) = answer["neighbors"]
    assert (neighbor["caption"], neighbor["explanation"]["named"]) == ("a lemon", ["lemon"])
    retrieval = pb.GenerateRequest.Retrieval(k=1, relevance=retrieval_pb2.RELEVANCE_ANY, explain=True)
    request = pb.GenerateRequest(prompt="a unicorn with a lemon", size=16, retrieval=retrieval)
    events = list(path.generation.Generate(request, timeout=SECONDS))
    assert list(events[1].neighbors.neighbors[0].explanation.named) == ["lemon"]
    request.retrieval.minimum_score = 1_000
    events = list(path.generation.Generate(request, timeout=SECONDS))
    assert events[1].neighbors.nothing_found.field == "retrieval.minimum_score"


def test_links_return_images_and_neighbors(path: Running) -> None:
    answer = draw(path, response_format="url")
    with Image.open(io.BytesIO(httpx.get(answer["data"][0]["url"]).content)) as picture:
        assert picture.size == (64, 64)
    for neighbor in answer["neighbors"]:
        assert "b64_json" not in neighbor
        shown = httpx.get(neighbor["url"])
        assert (shown.content, shown.headers["content-type"]) == (path.images[neighbor["id"]], "image/png")
    missing = path.rest.get("/v1/pairs/no-such-pair/image")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")


def test_a_request_has_one_trace_and_one_id_in_both_services(path: Running, collector: Any) -> None:
    trace_id, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    name = "the-request/7"
    headers = {"traceparent": f"00-{trace_id}-{caller}-01", "x-request-id": name}
    body = {"prompt": "a red panda on a traced hill", "size": "16x16", "retrieval": {"k": 2}}
    response = path.rest.post(URL, json=body, headers=headers)
    assert (response.status_code, response.headers["x-request-id"]) == (200, name)

    request, search = f"POST {URL}", "reimagen.v1.Retrieval/Search"
    parents = {
        request: ("reimagen-generator", None),
        "search": ("reimagen-generator", request),
        search: ("reimagen-retriever", "search"),
        "index": ("reimagen-retriever", search),
        "images": ("reimagen-retriever", search),
        "queue": ("reimagen-generator", request),
        "stage": ("reimagen-generator", request),
        "step": ("reimagen-generator", "stage"),
        "encode": ("reimagen-generator", request),
    }
    spans = collector.trace(trace_id, set(parents))
    steps = TINY.stages[0].steps
    assert sorted(one.span.name for one in spans) == sorted([*parents, *["step"] * (steps - 1)])
    by_name = {one.span.name: one for one in spans}
    for span_name, (service, parent) in parents.items():
        found = by_name[span_name]
        assert found.service == service
        assert found.span.parent_span_id == (by_name[parent].span.span_id if parent else bytes.fromhex(caller))
        assert found.span.end_time_unix_nano >= found.span.start_time_unix_nano
    for process, message in ((path.generator, "drawn"), (path.generator, "request"), (path.retriever, "call")):
        process.wait_for_line(rf"(?=.*msg={message} )(?=.*request_id={name})(?=.*trace_id={trace_id})")


def test_a_job_has_one_trace(path: Running, collector: Any) -> None:
    job = path.rest.post("/v1/jobs", json={"prompt": "a red panda in a queue", "size": "16x16"}).json()["id"]
    path.rest.get(f"/v1/jobs/{job}/events")  # until its end
    names = {"job", "search", "reimagen.v1.Retrieval/Search", "queue", "stage", "step", "encode"}
    spans = collector.trace(collector.trace_of("job", "job", job), names)
    (root,) = (one.span for one in spans if not one.span.parent_span_id)
    children = {one.span.name for one in spans if one.span.parent_span_id == root.span_id}
    assert (root.name, children) == ("job", {"search", "queue", "stage", "encode"})


def test_drawing_is_counted_in_metrics(path: Running) -> None:
    def counted() -> dict[str, float]:
        families = text_string_to_metric_families(path.rest.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return {"|".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}

    before = counted()
    draw(path, n=2)
    after = counted()
    steps = {stage.size: 2 * stage.steps for stage in TINY.stages if stage.size <= 64}
    expected = {"reimagen_generator_images_total|64": 2, "reimagen_generator_calls_total|finished": 1}
    expected |= {f"reimagen_generator_steps_total|{size}": count for size, count in steps.items()}
    # The tiny cascade guides no step: each evaluates its network once.
    expected |= {f"reimagen_generator_evaluations_total|{size}": count for size, count in steps.items()}
    expected |= {f"reimagen_generator_stage_seconds_count|{size}": 2 for size in steps}
    expected |= {f"reimagen_http_request_seconds_count|POST|{URL}|200": 1}
    assert {name: after[name] - before.get(name, 0) for name in expected} == expected
    assert after["reimagen_generator_queue_length"] == 0


def test_a_stopped_retriever_is_reported_and_found_after_its_restart(path: Running) -> None:
    body = {"prompt": "a lemon", "size": "16x16"}
    assert path.retriever.stop() == 0
    try:
        missed = path.rest.post(URL, json=body)
        assert (missed.status_code, missed.json()["error"]["type"]) == (503, "unavailable_error")
        assert f"the retriever at {path.retriever_address} does not answer" in missed.json()["detail"]
        alone = path.rest.post(URL, json={**body, "retrieval": {"k": 0}})
        assert (alone.status_code, alone.json()["text_only"]) == (200, True)
    finally:
        path.retriever = path.restart_retriever()
        path.retriever.ready()
    found = path.rest.post(URL, json=body)
    assert (found.status_code, len(found.json()["neighbors"])) == (200, 2)


def test_stopping_finishes_requests_in_progress(tmp_path: Path) -> None:
    first, *rest = TINY.stages
    stages = (first.model_copy(update={"steps": 300}), *rest)
    weights = save(TINY.model_copy(update={"stages": stages}), tmp_path / "weights")
    with Process("reimagen-generator", "serve", "--weights", weights, *FREE_PORTS) as generator:
        address = f"http://127.0.0.1:{generator.ready()['http_port']}"
        body = {"prompt": "a lemon", "size": "16x16", "retrieval": {"k": 0}, "stream": True}
        with httpx.stream("POST", address + URL, json=body, timeout=SECONDS) as response:
            lines = response.iter_lines()
            assert any(line == "event: image_generation.progress" for line in lines)
            assert generator.stop() == 0
            assert any(line == "event: image_generation.completed" for line in lines)
