"""Real services in the process of a test."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reimagen_generator.backends.cascade import CascadeBackend
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.engine import Engine
from reimagen_generator.server import GeneratorServer
from reimagen_generator.settings import Settings as GeneratorSettings
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.server import RetrieverServer
from reimagen_retriever.settings import Settings as RetrieverSettings


@contextmanager
def serving_pairs(folder: Path, pairs: Mapping[str, tuple[str, bytes]], **fields: str) -> Iterator[RetrieverServer]:
    """Serve a new knowledge base.

    Args:
        folder: An empty folder.
        pairs: The caption and the PNG of each pair, by id.
        fields: Further fields of all pairs, such as `license`.
    """
    source = folder / "source"
    source.mkdir()
    rows = []
    for number, (pair_id, (caption, image)) in enumerate(pairs.items()):
        (source / f"{number}.png").write_bytes(image)
        rows.append({"image": f"{number}.png", "caption": caption, "id": pair_id, **fields})
    (source / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build(open_source(source), folder / "kb")
    settings = RetrieverSettings(knowledge_base=folder / "kb", grpc="127.0.0.1:0", http="127.0.0.1:0")
    server = RetrieverServer(settings)
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


@contextmanager
def serving_cascade(folder: Path, cascade: Cascade, retriever: str, **settings: Any) -> Iterator[GeneratorServer]:
    """Serve a cascade, with jobs.

    Args:
        folder: A folder for the cascade's weights and the jobs.
        cascade: The cascade.
        retriever: Address of the retriever.
        settings: Further settings.
    """
    cascade.save(folder)
    values = GeneratorSettings(
        weights=folder,
        retriever=retriever,
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        stop_seconds=0,
        jobs=folder / "jobs",
        **settings,
    )
    server = GeneratorServer(CascadeBackend(Engine(cascade, capacity=values.capacity)), values)
    server.start()
    try:
        yield server
    finally:
        server.stop()
