"""Take the screenshots of the page in docs/page, from a service that runs: `python -m tools.screenshots http://...`."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "page"
_TO_TOP: Final = "for (const one of [document.documentElement, document.querySelector('.compose')]) one?.scrollTo(0, 0)"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP: Final[dict[str, Any]] = {"viewport": {"width": 1360, "height": 900}}
PHONE: Final[dict[str, Any]] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


def find_browser() -> str:
    """Return the path of Chromium or Chrome.

    Raises:
        FileNotFoundError: There is none.
    """
    found = os.environ.get("REIMAGEN_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise FileNotFoundError(
            "install Chromium: apt-get install chromium; or set REIMAGEN_BROWSER to the path of a browser like it"
        )
    return found


def save(page: Page, name: str, *, top: bool = True) -> None:
    """Save what the page shows as a WebP file, by default its top."""
    if top:
        page.evaluate(_TO_TOP)
    page.wait_for_timeout(1_000)
    png = FOLDER / f"{name}.png"
    page.screenshot(path=png)
    with Image.open(png) as image:
        image.save(FOLDER / f"{name}.webp", quality=88)
    png.unlink()


def ask(page: Page, prompt: str, *, seed: int | None = None) -> None:
    """Write a prompt, and wait for its neighbors."""
    page.get_by_label("What should it show?").fill(prompt)
    page.locator(".neighbor, .empty").first.wait_for()
    page.wait_for_timeout(1_000)
    if seed is not None:
        page.locator(".settings > summary").click()
        page.get_by_label("Seed", exact=True).fill(str(seed))
        page.locator(".settings > summary").click()


def visit(browser: Browser, url: str, **options: Any) -> Page:
    """Open the page in a new profile."""
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(120_000)
    page.goto(url)
    page.locator(".examples .chip").first.wait_for()
    return page


def desktop(browser: Browser, url: str) -> None:
    """Show the journey on a desktop."""
    page = visit(browser, url, **DESKTOP, color_scheme="light")
    save(page, "welcome")
    ask(page, "a red panda on a beach", seed=7)
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#stage img.preview").wait_for()
    save(page, "preview")
    page.locator("#stage img.final").wait_for()
    save(page, "drawn")
    page.get_by_role("button", name="with / without").click()
    page.locator("#stage img.final").nth(1).wait_for()
    page.get_by_role("button", name="four seeds").click()
    page.locator("#stage img.final").nth(3).wait_for()
    save(page, "seeds")
    page.get_by_role("button", name="η strip").click()
    page.locator("#stage img.preview, #stage img.final").nth(1).wait_for()
    save(page, "strip")
    ask(page, "a submarine made of glass")
    page.get_by_text("No neighbor.").wait_for()
    save(page, "nothing")
    page.get_by_role("link", name="Knowledge base", exact=True).click()
    page.locator(".pair img").first.wait_for()
    save(page, "knowledge")
    page.emulate_media(color_scheme="dark")
    page.get_by_label("Search the knowledge base").fill("a fox")
    page.wait_for_timeout(1_500)
    save(page, "knowledge-dark")
    page.get_by_role("link", name="Draw", exact=True).click()
    save(page, "dark")


def phone(browser: Browser, url: str) -> None:
    """Show the page on a phone."""
    page = visit(browser, url, **PHONE, color_scheme="dark")
    ask(page, "a fox in a forest at night", seed=3)
    save(page, "phone-compose")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#stage img.final").wait_for()
    page.locator("#stage").scroll_into_view_if_needed()
    save(page, "phone-drawn", top=False)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        desktop(chromium, sys.argv[1])
        phone(chromium, sys.argv[1])
