"""The page in a real browser, over real services: a retriever, and generators of tiny cascades."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from reimagen_generator.config.presets import TINY
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.server import RetrieverServer
from reimagen_retriever.settings import Settings as RetrieverSettings
from tests.browser.stack import PAIRS, Stack, png, serve
from tools.screenshots import find_browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_browser()
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as which containers often run tests.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetrieverServer]:
    source = tmp_path_factory.mktemp("source")
    for name, (caption, color) in PAIRS.items():
        (source / f"{name}.png").write_bytes(png(color))
        (source / f"{name}.txt").write_text(caption)
    base = tmp_path_factory.mktemp("base") / "kb"
    build(open_source(source), base)
    service = RetrieverServer(RetrieverSettings(knowledge_base=base, grpc="127.0.0.1:0", http="127.0.0.1:0"))
    service.start()
    yield service
    service.stop(0)


@pytest.fixture(scope="session")
def stack(retriever: RetrieverServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Serve the tiny cascade, which draws in a moment."""
    with serve(TINY, tmp_path_factory.mktemp("tiny"), retriever) as stack:
        yield stack


@pytest.fixture(scope="session")
def slow_stack(retriever: RetrieverServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Serve a cascade that takes longer for an image than any test."""
    stage = TINY.stages[0].model_copy(update={"steps": 20_000})
    with serve(TINY.model_copy(update={"stages": (stage,)}), tmp_path_factory.mktemp("slow"), retriever) as stack:
        yield stack
