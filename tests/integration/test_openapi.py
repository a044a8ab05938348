"""Both services keep what their OpenAPI documents say: schemathesis sends what these allow, and what they don't.

REIMAGEN_API_EXAMPLES is how many requests it makes of each operation; `make test-api` sets it to 2,000.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.server import GeneratorServer
from reimagen_generator.settings import Settings as GeneratorSettings
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.server import RetrieverServer
from reimagen_retriever.settings import Settings as RetrieverSettings

EXAMPLES = os.environ.get("REIMAGEN_API_EXAMPLES", "30")
SEED = "20261128"
SECONDS = "240"
CAPTIONS = {"fox": "a red fox", "kea": "a kea", "panda": "a red panda"}


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetrieverServer]:
    source = tmp_path_factory.mktemp("source")
    for number, (name, caption) in enumerate(CAPTIONS.items()):
        image = Image.new("RGB", (24, 16), (80 * number, 120, 40))
        image.paste("white", (0, 0, 8 * number, 16))
        image.save(source / f"{name}.png")
        (source / f"{name}.txt").write_text(caption)
    base = tmp_path_factory.mktemp("base") / "kb"
    build(open_source(source), base)
    service = RetrieverServer(RetrieverSettings(knowledge_base=base, grpc="127.0.0.1:0", http="127.0.0.1:0"))
    service.start()
    yield service
    service.stop(0)


@pytest.fixture(scope="module")
def generator(retriever: RetrieverServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tiny")
    # Every request is drawn in a moment: one stage of two steps, and few numbers of neighbors to compile for.
    cascade = Cascade.random(TINY.model_copy(update={"stages": TINY.stages[:1], "maximum_k": 2}), seed=0)
    cascade.save(folder)
    settings = GeneratorSettings(
        jobs=folder / "jobs",
        weights=folder,
        retriever=retriever.addresses["grpc"],
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        stop_seconds=0,
    )
    service = GeneratorServer(cascade, settings)
    service.start()
    yield f"127.0.0.1:{service.http_port}"
    service.stop()


def keeps_its_document(address: str, folder: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    # What is checked is what is answered, not how soon: a busy machine may take long to compile and to draw.
    patience = {"request-timeout": SECONDS, "max-response-time": SECONDS}
    options = {"checks": "all", "max-examples": EXAMPLES, "seed": SEED, "generation-database": "none", **patience}
    command = [str(program), "run", f"http://{address}/openapi.json", "--no-color"]
    command += [f"--{name}={value}" for name, value in options.items()]
    hooks = {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("openapi_hooks.py"))}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | hooks)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_retriever_keeps_its_document(retriever: RetrieverServer, tmp_path: Path) -> None:
    keeps_its_document(retriever.addresses["http"], tmp_path)


def test_the_generator_keeps_its_document(generator: str, tmp_path: Path) -> None:
    keeps_its_document(generator, tmp_path)
