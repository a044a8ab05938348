"""Both services keep what their OpenAPI documents say: schemathesis sends what these allow, and what they don't.

Both require keys. Schemathesis also checks that they refuse requests without the key that the documents ask for.

REIMAGEN_API_EXAMPLES is how many requests it makes of each operation; `make test-api` sets it to 2,000.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from reimagen_common.access.key_file import add_key
from reimagen_common.access.keys import make_key
from reimagen_common.access.rights import Right
from reimagen_generator.backends.cascade import CascadeBackend
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.engine import Engine
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


@dataclass(frozen=True)
class Keys:
    """A key with all rights, and the file that it is in."""

    file: Path
    key: str


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    key, stored = make_key("schemathesis", frozenset(Right))
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    add_key(file, stored)
    return Keys(file, key)


@pytest.fixture(scope="module")
def retriever(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetrieverServer]:
    source = tmp_path_factory.mktemp("source")
    for number, (name, caption) in enumerate(CAPTIONS.items()):
        image = Image.new("RGB", (24, 16), (80 * number, 120, 40))
        image.paste("white", (0, 0, 8 * number, 16))
        image.save(source / f"{name}.png")
        (source / f"{name}.txt").write_text(caption)
    base = tmp_path_factory.mktemp("base") / "kb"
    build(open_source(source), base)
    service = RetrieverServer(
        RetrieverSettings(knowledge_base=base, grpc="127.0.0.1:0", http="127.0.0.1:0", keys=keys.file)
    )
    service.start()
    yield service
    service.stop(0)


@pytest.fixture(scope="module")
def generator(keys: Keys, retriever: RetrieverServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tiny")
    # Every request is drawn in a moment: one stage of two steps, and few numbers of neighbors to compile for.
    cascade = Cascade.random(TINY.model_copy(update={"stages": TINY.stages[:1], "maximum_k": 2}), seed=0)
    cascade.save(folder)
    settings = GeneratorSettings(
        jobs=folder / "jobs",
        weights=folder,
        retriever=retriever.addresses["grpc"],
        retriever_api_key=keys.key,
        keys=keys.file,
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        stop_seconds=0,
    )
    service = GeneratorServer(CascadeBackend(Engine(cascade, capacity=settings.capacity)), settings)
    service.start()
    yield f"127.0.0.1:{service.http_port}"
    service.stop()


def keeps_its_document(address: str, key: str, folder: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    # Responses are checked, not their time: a busy machine can take long to compile and draw.
    patience = {"request-timeout": SECONDS, "max-response-time": SECONDS}
    options = {"checks": "all", "max-examples": EXAMPLES, "seed": SEED, "generation-database": "none", **patience}
    command = [
        str(program),
        "run",
        f"http://{address}/openapi.json",
        "--no-color",
        f"--header=Authorization: Bearer {key}",
    ]
    command += [f"--{name}={value}" for name, value in options.items()]
    hooks = {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("openapi_hooks.py"))}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | hooks)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_retriever_conforms_to_its_openapi_document(retriever: RetrieverServer, keys: Keys, tmp_path: Path) -> None:
    keeps_its_document(retriever.addresses["http"], keys.key, tmp_path)


def test_the_generator_conforms_to_its_openapi_document(generator: str, keys: Keys, tmp_path: Path) -> None:
    keeps_its_document(generator, keys.key, tmp_path)
