"""The page of a service that requires keys."""

import pytest
from playwright.sync_api import Browser, expect

from reimagen_common.access.key_file import add_key
from reimagen_common.access.keys import make_key
from reimagen_common.access.rights import Right
from reimagen_generator.config.presets import TINY
from reimagen_retriever.server import RetrieverServer
from tests.browser.actions import check_accessibility, images, neighbors, write_prompt
from tests.browser.stack import serve, visit


def test_the_page_asks_for_a_key_and_draws_with_it(
    browser: Browser, retriever: RetrieverServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    key, stored = make_key("visitor", frozenset(Right))
    add_key(folder / "keys.json", stored)
    one_stage = TINY.model_copy(update={"stages": TINY.stages[:1]})
    with serve(one_stage, folder, retriever, keys=folder / "keys.json") as stack, visit(browser, stack) as seen:
        page = seen.page
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("This service requires a key.")
        check_accessibility(page)
        dialog.get_by_label("Key", exact=True).fill("wrong")
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog.get_by_role("alert")).to_be_visible()
        dialog.get_by_label("Key", exact=True).fill(key)
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog).to_have_count(0)
        write_prompt(page, "a red fox")
        expect(neighbors(page).locator("img")).to_have_count(2)
        page.get_by_role("button", name="Draw", exact=True).click()
        expect(images(page)).to_have_count(1)
        # The key lasts as long as the tab.
        page.reload()
        expect(page.locator(".history .entry")).to_have_count(1)
        expect(page.get_by_role("button", name="Change the API key")).to_be_visible()
        assert all("401" in error for error in seen.errors)
        seen.errors.clear()
