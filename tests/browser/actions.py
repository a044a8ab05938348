"""What a visitor does with the page."""

import base64
from pathlib import Path
from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

expect.set_options(timeout=60_000)

_MAKE_TRANSFER = """([data, type, name]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type}));
  return transfer;
}"""
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def write_prompt(page: Page, prompt: str) -> None:
    """Type a prompt, and wait until its neighbors were searched."""
    with page.expect_response("**/v1/knowledge/search"):
        page.get_by_label("What should it show?").fill(prompt)


def neighbors(page: Page) -> Locator:
    return page.locator(".neighbor")


def drop(page: Page, target: str, content: bytes, *, media_type: str = "image/png", name: str = "image.png") -> None:
    """Drop a file on an element."""
    data = [base64.b64encode(content).decode(), media_type, name]
    transfer = page.evaluate_handle(_MAKE_TRANSFER, data)
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event(target, event, {"dataTransfer": transfer})


def paste(page: Page, content: bytes) -> None:
    """Paste an image."""
    data = [base64.b64encode(content).decode(), "image/png", "image.png"]
    page.evaluate(
        f"(data) => dispatchEvent(new ClipboardEvent('paste', {{clipboardData: ({_MAKE_TRANSFER})(data)}}))", data
    )


def images(page: Page) -> Locator:
    """The finished images that are shown large."""
    return page.locator("#stage img.final")


def downloaded(page: Page) -> bytes:
    """Download the image that is shown large."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    return Path(download.value.path()).read_bytes()


# The second frame is drawn in the new colors and without transitions.
_NEXT_FRAME: Final = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def check_accessibility(page: Page) -> None:
    """Check the page in its current state with axe, in light and dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(_NEXT_FRAME)
        result: Any = Axe().run(page, options={"runOnly": {"type": "tag", "values": _RULES}})
        found = [
            (
                violation["id"],
                [node["html"][:160] + " :: " + node["failureSummary"][:300] for node in violation["nodes"]],
            )
            for violation in result.response["violations"]
        ]
        assert not found, f"{scheme}: {found}"
