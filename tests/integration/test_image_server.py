"""The whole path with an image server: prompt, Lucene, references to `images/edits`, an image with its provenance.

The image server is another generator, which draws with the tiny cascade.
"""

import base64
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from reimagen_generator.backends.cascade import CascadeBackend
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.engine import Engine
from reimagen_generator.generation import provenance
from reimagen_generator.server import GeneratorServer
from reimagen_generator.settings import Settings as GeneratorSettings
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.server import RetrieverServer
from reimagen_retriever.settings import Settings as RetrieverSettings
from tests.waiting import SECONDS, LoggedProcess

PROMPT = "a red panda in the snow"
PROGRAM = Path(sys.executable).with_name("reimagen-generator")
ANYWHERE = {"REIMAGEN_GENERATOR_HTTP": "127.0.0.1:0", "REIMAGEN_GENERATOR_GRPC": "127.0.0.1:0"}


@dataclass(frozen=True)
class Running:
    """A REST client of the service, and one of the image server."""

    rest: httpx.Client
    image_server: httpx.Client

    def metric(self, line: str) -> float:
        """Return a metric of the image server; 0 if it has none yet."""
        lines = self.image_server.get("/metrics").text.splitlines()
        return sum(float(each.rpartition(" ")[2]) for each in lines if each.startswith(f"{line} "))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("path")
    source = folder / "source"
    source.mkdir()
    for number, kind in enumerate(("tiff", "png")):
        image = Image.new("RGB", (48, 40), (200, 90, 40))
        image.paste("white", (0, 0, 24 * number, 20))
        image.save(source / f"{number}.{kind}")
        (source / f"{number}.txt").write_text("a red panda")
    build(open_source(source), folder / "base")
    with contextlib.ExitStack() as stack:
        retriever = RetrieverServer(
            RetrieverSettings(knowledge_base=folder / "base", grpc="127.0.0.1:0", http="127.0.0.1:0")
        )
        retriever.start()
        stack.callback(retriever.stop, 0)
        cascade = Cascade.random(TINY, seed=0)
        cascade.save(folder / "tiny")
        address = retriever.addresses["grpc"]
        server = GeneratorServer(
            CascadeBackend(Engine(cascade, capacity=4)),
            GeneratorSettings(retriever=address, grpc="127.0.0.1:0", http="127.0.0.1:0", stop_seconds=0),
        )
        server.start()
        stack.callback(server.stop)
        url = f"http://127.0.0.1:{server.http_port}"
        environment = ANYWHERE | {
            "REIMAGEN_GENERATOR_RETRIEVER": address,
            "REIMAGEN_GENERATOR_IMAGES_URL": f"{url}/v1/",
            "REIMAGEN_GENERATOR_IMAGES_MODEL": TINY.name,
            "REIMAGEN_GENERATOR_IMAGES_SIZES": "16, 64",
            "REIMAGEN_GENERATOR_JOBS": str(folder / "jobs"),
        }
        process = stack.enter_context(LoggedProcess([PROGRAM, "serve"], environment))
        port = process.wait_for_line(r"msg=ready .*http_port=(\d+)")[1]
        rest = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS))
        yield Running(rest, stack.enter_context(httpx.Client(base_url=url, timeout=SECONDS)))
        process.popen.terminate()
        assert process.popen.wait(SECONDS) == 0


def check_provenance(file: bytes, folder: Path, revision: str) -> None:
    (folder / "image.png").write_bytes(file)
    with Image.open(folder / "image.png") as image:
        assert image.size == (64, 64)
    origin = provenance.read(folder / "image.png")
    assert (origin.prompt, origin.seed, origin.cascade, origin.revision) == (PROMPT, None, TINY.name, revision)
    assert sorted((source.id, source.caption) for source in origin.neighbors) == [
        ("0", "a red panda"),
        ("1", "a red panda"),
    ]


def test_a_request_is_drawn_by_the_server_from_the_neighbors(path: Running, tmp_path: Path) -> None:
    edits = 'reimagen_http_request_seconds_count{method="POST",route="/v1/images/edits",status="200"}'
    before = path.metric(edits)
    answer: dict[str, Any] = path.rest.post(
        "/v1/images/generations", json={"prompt": PROMPT, "n": 2, "size": "64x64"}
    ).json()
    assert path.metric(edits) == before + 1
    assert [neighbor["caption"] for neighbor in answer["neighbors"]] == ["a red panda"] * 2
    assert (answer["cascade"], answer["size"], len(answer["data"])) == (TINY.name, "64x64", 2)
    assert "seed" not in answer
    assert (answer["usage"]["output_tokens"], answer["usage"]["steps"]) == (2 * 16, 0)
    for image in answer["data"]:
        check_provenance(base64.b64decode(image["b64_json"]), tmp_path, answer["revision"])


def test_a_job_is_drawn_by_the_server(path: Running, tmp_path: Path) -> None:
    job = path.rest.post("/v1/jobs", json={"prompt": PROMPT, "size": "64x64"}).json()
    path.rest.get(f"/v1/jobs/{job['id']}/events")  # until its end
    job = path.rest.get(f"/v1/jobs/{job['id']}").json()
    assert job["status"] == "completed"
    check_provenance(httpx.get(job["data"][0]["url"]).content, tmp_path, job["revision"])


def test_a_refusal_of_the_server_is_the_clients_error(path: Running) -> None:
    # The server's limit is a prompt of 1,000 characters, and the service appends the captions.
    response = path.rest.post("/v1/images/generations", json={"prompt": f"{PROMPT} {'x' * 970}", "size": "64x64"})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "the image server refuses the request" in error["message"]
    assert "1000 characters" in error["message"]


def test_an_invalid_template_is_named_at_the_start() -> None:
    environment = {
        "REIMAGEN_GENERATOR_IMAGES_URL": "http://127.0.0.1:1/v1",
        "REIMAGEN_GENERATOR_IMAGES_REFERENCE_TEMPLATE": "{number}",
    }
    with LoggedProcess([PROGRAM, "serve"], environment | ANYWHERE) as process:
        process.wait_for_line("error: images_reference_template: must contain")
        assert process.popen.wait(SECONDS) == 2
