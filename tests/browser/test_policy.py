"""What the page says about pairs that the operator does not allow."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from reimagen_generator.config.presets import TINY
from reimagen_retriever.server import RetrieverServer
from tests.browser.actions import check_accessibility, images, neighbors, write_prompt
from tests.browser.stack import serve, visit


@pytest.mark.parametrize(("prompt", "kept"), [("a kea and a leopard", ["a kea"]), ("a leopard", [])])
def test_pairs_that_are_left_out_are_listed_before_and_after_drawing(
    browser: Browser, retriever: RetrieverServer, tmp_path: Path, prompt: str, kept: list[str]
) -> None:
    blocklist = tmp_path / "blocklist.txt"
    blocklist.write_text("snow\n")
    config = TINY.model_copy(update={"stages": TINY.stages[:1]})
    with serve(config, tmp_path, retriever, blocklist=blocklist) as stack, visit(browser, stack) as seen:
        page = seen.page
        write_prompt(page, prompt)
        left_out = "Left out: “a snow leopard” contains 'snow', which the operator of this service does not allow."
        expect(page.locator(".neighbors-section .refused")).to_have_text([left_out])
        expect(neighbors(page)).to_have_count(len(kept))
        check_accessibility(page)
        page.get_by_role("button", name="Draw" if kept else "Draw without neighbors", exact=True).click()
        expect(images(page)).to_have_count(1)
        expect(page.locator(".grounding li strong")).to_have_text(kept)
        expect(page.locator(".grounding .refused")).to_have_text([left_out])
        check_accessibility(page)
        # The history keeps the reasons.
        page.reload()
        expect(page.locator(".grounding .refused")).to_have_text([left_out])
