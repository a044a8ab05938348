"""What the page says about pairs that the operator does not allow."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from reimagen_generator.config.presets import TINY
from reimagen_retriever.server import RetrieverServer
from tests.browser.actions import check_accessibility, images, neighbors, write_prompt
from tests.browser.stack import serve, visit


@pytest.mark.parametrize(("prompt", "found", "kept"), [("a kea and a leopard", 2, ["a kea"]), ("a leopard", 1, [])])
def test_pairs_that_were_left_out_are_listed(
    browser: Browser, retriever: RetrieverServer, tmp_path: Path, prompt: str, found: int, kept: list[str]
) -> None:
    blocklist = tmp_path / "blocklist.txt"
    blocklist.write_text("snow\n")
    config = TINY.model_copy(update={"stages": TINY.stages[:1]})
    with serve(config, tmp_path, retriever, blocklist=blocklist) as stack, visit(browser, stack) as seen:
        page = seen.page
        write_prompt(page, prompt)
        expect(neighbors(page)).to_have_count(found)
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(images(page)).to_have_count(1)
        expect(page.locator(".grounding li strong")).to_have_text(kept)
        expect(page.locator(".refused")).to_have_text(
            ["Left out: “a snow leopard” contains 'snow', which the operator of this service does not allow."]
        )
        check_accessibility(page)
        # The history keeps the reasons.
        page.reload()
        expect(page.locator(".refused")).to_have_count(1)
