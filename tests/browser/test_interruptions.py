"""The queue, and what happens when something breaks."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import check_accessibility, images, neighbors, write_prompt
from tests.browser.stack import Stack, visit
from tools.screenshots import PHONE

_STEP = re.compile(r"step (\d+) of")


def step_of(page: Page) -> int:
    """Return the step that is done, as soon as there is one."""
    status = page.locator(".progress .hint")
    expect(status).to_contain_text(_STEP)
    found = _STEP.search(status.inner_text())
    assert found
    return int(found[1])


@pytest.mark.parametrize("device", [{}, PHONE], ids=["desktop", "phone"])
def test_the_queue_has_places_survives_a_reload_and_is_cancelled(
    browser: Browser, slow_stack: Stack, device: dict[str, Any]
) -> None:
    with visit(browser, slow_stack, **device) as seen:
        page = seen.page
        write_prompt(page, "a red fox")
        for count in (1, 2, 3):
            page.get_by_role("button", name="Draw", exact=True).click()
            expect(page.locator(".queue li")).to_have_count(count)
        places = page.locator(".queue .place")
        expect(places).to_have_text(["now", "1", "2"])
        check_accessibility(page)
        page.reload()
        expect(page.locator(".queue li")).to_have_count(3)
        expect(places).to_have_text(["now", "1", "2"])
        # The one in the middle, then the one that is drawn.
        page.get_by_role("button", name=re.compile("^Cancel a red fox")).nth(1).click()
        expect(places).to_have_text(["now", "1"])
        page.get_by_role("button", name=re.compile("^Cancel a red fox")).first.click()
        expect(places).to_have_text(["now"])
        page.get_by_role("button", name="Cancel", exact=True).first.click()
        expect(page.locator(".queue")).to_have_count(0)
        expect(page.locator(".history .entry")).to_have_count(3)
        expect(page.locator(".failure").first).to_have_text("Cancelled")


def test_previews_arrive_and_a_broken_stream_goes_on(browser: Browser, slow_stack: Stack) -> None:
    with visit(browser, slow_stack) as seen:
        page = seen.page
        write_prompt(page, "a red fox")
        page.get_by_role("button", name="Draw", exact=True).click()
        before = step_of(page)
        slow_stack.cable.cut()
        expect(page.locator(".progress")).to_contain_text("Connection lost")
        slow_stack.cable.mend()
        assert step_of(page) > before
        page.get_by_role("button", name="Cancel", exact=True).click()
        expect(page.locator(".queue")).to_have_count(0)
        # The browser reports what it could not reach while the connection was cut.
        assert seen.errors
        assert all("Failed to load resource" in error for error in seen.errors)
        seen.errors.clear()


def test_without_the_retriever_the_page_says_so_and_draws(browser: Browser, stack: Stack) -> None:
    with visit(browser, stack) as seen:
        page = seen.page
        expect(page.locator(".examples .chip").first).to_be_visible()
        stack.retriever_cable.cut()
        try:
            write_prompt(page, "a red fox at night")
            expect(page.get_by_text("The knowledge base does not answer.")).to_be_visible()
            check_accessibility(page)
            page.get_by_role("button", name="Draw without neighbors").click()
            expect(images(page)).to_have_count(1)
            page.get_by_role("link", name="base").click()
            expect(page.get_by_role("button", name="Try again")).to_be_visible()
            page.get_by_role("link", name="Draw", exact=True).click()
        finally:
            stack.retriever_cable.mend()
        # It finds the neighbors by itself as soon as the retriever answers.
        expect(neighbors(page)).to_have_count(2)
        assert all("503" in error for error in seen.errors)
        seen.errors.clear()
