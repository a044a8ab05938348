"""The page in a real browser, over real services: a retriever, and generators of tiny cascades."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from reimagen_generator.config.presets import TINY
from reimagen_retriever.server import RetrieverServer
from tests.browser.stack import PAIRS, Stack, png, serve
from tests.real_services import serving_pairs
from tools.screenshots import find_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser for the tests of a file: while it runs, this thread cannot run an event loop of its own."""
    path = find_browser()
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as which containers often run tests.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetrieverServer]:
    pairs = {name: (caption, png(color)) for name, (caption, color) in PAIRS.items()}
    with serving_pairs(tmp_path_factory.mktemp("base"), pairs) as server:
        yield server


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
