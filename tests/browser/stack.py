"""Real services for the page, and visits to it."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_retriever.server import RetrieverServer
from tests.browser.cable import Cable
from tests.real_services import serving_cascade
from tools.screenshots import DESKTOP

MILLISECONDS = 60_000
PAIRS = {
    "fox-1": ("a red fox", (200, 80, 30)),
    "fox-2": ("a red fox", (230, 140, 90)),
    "kea": ("a kea", (60, 140, 60)),
    "leopard": ("a snow leopard", (180, 180, 190)),
    "robot": ("a blue robot", (40, 80, 220)),
}


def png(color: tuple[int, int, int], side: int = 48) -> bytes:
    """Return an image whose left part is white, so that no two are near-duplicates."""
    image = Image.new("RGB", (side, side), color)
    image.paste("white", (0, 0, 1 + color[0] * side // 300, 1 + color[2] * side // 300))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Visit:
    """A page in the browser, and what went wrong in it."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stack:
    """The services, with cables that can be cut."""

    cable: Cable
    """Between the browser and the generator."""
    retriever_cable: Cable
    """Between the generator and the retriever."""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.cable.port}"


@contextlib.contextmanager
def serve(config: CascadeConfig, folder: Path, retriever: RetrieverServer, **options: Any) -> Iterator[Stack]:
    cascade = Cascade.random(config, seed=0)
    with (
        Cable(retriever.addresses["grpc"]) as retriever_cable,
        serving_cascade(folder, cascade, f"127.0.0.1:{retriever_cable.port}", **options) as server,
        Cable(f"127.0.0.1:{server.http_port}") as cable,
    ):
        yield Stack(cable, retriever_cable)


@contextlib.contextmanager
def visit(browser: Browser, stack: Stack, *, path: str = "/", **options: Any) -> Iterator[Visit]:
    """Open the page in a new profile, and check at the end that it caused no errors and no requests elsewhere."""
    context: BrowserContext = browser.new_context(**(DESKTOP | options))
    context.set_default_timeout(MILLISECONDS)
    page = context.new_page()
    seen = Visit(page, stack.origin)
    page.on("console", lambda message: _note(message, seen))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda request: _check_origin(request.url, seen))
    page.goto(stack.origin + path)
    try:
        yield seen
    finally:
        context.close()
    assert (seen.errors, seen.foreign) == ([], [])


def _note(message: ConsoleMessage, seen: Visit) -> None:
    if message.type == "error":
        seen.errors.append(message.text)


def _check_origin(url: str, seen: Visit) -> None:
    if not url.startswith((f"{seen.origin}/", "blob:", "data:")):
        seen.foreign.append(url)
