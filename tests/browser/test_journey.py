"""A visitor's journey through the page, on a desktop and on a phone."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import check_accessibility, downloaded, drop, images, neighbors, paste, write_prompt
from tests.browser.stack import Stack, png, visit
from tools.screenshots import DESKTOP, PHONE

DEVICES = pytest.mark.parametrize(
    "device", [DESKTOP | {"color_scheme": "light"}, PHONE | {"color_scheme": "dark"}], ids=["desktop", "phone"]
)


def provenance(file: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(file)) as image:
        values: dict[str, Any] = json.loads(image.info["reimagen"])
    return values


def draw(page: Page) -> None:
    page.get_by_role("button", name="Draw", exact=True).click()


def open_settings(page: Page) -> None:
    page.locator(".settings > summary").click()


@DEVICES
def test_the_whole_journey(browser: Browser, stack: Stack, device: dict[str, Any]) -> None:
    with visit(browser, stack, **device) as seen:
        page = seen.page
        # The knowledge base proposes prompts.
        expect(page.locator(".examples .chip").first).to_be_visible()
        check_accessibility(page)

        # The neighbors appear before anything is drawn.
        write_prompt(page, "a red fox in the snow")
        expect(neighbors(page)).to_have_count(2)
        expect(neighbors(page).first).to_contain_text("a red fox")
        page.get_by_text("names “red fox”").first.click()
        expect(page.get_by_label("Contributions to the score").first).to_contain_text("fox")

        # One of them is replaced by a file that is dropped on it.
        drop(page, ".neighbor:nth-child(2)", png((10, 200, 200)))
        expect(neighbors(page).nth(1)).to_contain_text("your image")
        neighbors(page).nth(1).get_by_label("What your image shows").fill("a fox of mine")
        check_accessibility(page)

        # The image appears.
        open_settings(page)
        page.get_by_label("Seed", exact=True).fill("7")
        draw(page)
        expect(images(page)).to_have_count(1)
        expect(page.locator(".grounding li")).to_have_count(2)
        check_accessibility(page)
        file = downloaded(page)
        drawn = provenance(file)
        assert (drawn["prompt"], drawn["seed"]) == ("a red fox in the snow", 7)
        assert [one["caption"] for one in drawn["neighbors"]] == ["a red fox", "a fox of mine"]

        # With and without neighbors, side by side.
        page.get_by_role("button", name="with / without").click()
        expect(page.locator(".group-title")).to_have_text("With and without neighbors")
        expect(images(page)).to_have_count(2)
        # From neighbors to text.
        page.get_by_role("button", name="η strip").click()
        expect(page.locator(".group-title")).to_have_text("From neighbors to text")
        expect(images(page)).to_have_count(5)
        expect(page.locator("#stage .label")).to_have_text([f"η = {eta}" for eta in ("0", "0.25", "0.5", "0.75", "1")])
        check_accessibility(page)

        # After a reload, all of this is in the history.
        page.reload()
        expect(page.locator(".history .entry")).to_have_count(3)

        # A dropped image restores what it was drawn with, the visitor's own image included.
        write_prompt(page, "a kea")
        drop(page, "main", file)
        expect(page.get_by_label("What should it show?")).to_have_value("a red fox in the snow")
        expect(neighbors(page)).to_have_count(2)
        expect(neighbors(page).nth(1).get_by_label("What your image shows")).to_have_value("a fox of mine")
        open_settings(page)
        expect(page.get_by_label("Seed", exact=True)).to_have_value("7")
        draw(page)
        expect(page.locator(".history .entry")).to_have_count(4)
        expect(images(page)).to_have_count(1)
        assert provenance(downloaded(page)) == drawn
        assert downloaded(page) == file


def test_neighbors_are_removed_moved_and_searched_again(browser: Browser, stack: Stack) -> None:
    with visit(browser, stack) as seen:
        page = seen.page
        write_prompt(page, "a red fox and a kea")
        expect(neighbors(page)).to_have_count(2)
        page.get_by_role("button", name=re.compile("^Remove ")).first.click()
        expect(neighbors(page)).to_have_count(1)
        paste(page, png((90, 10, 90)))
        expect(neighbors(page)).to_have_count(2)
        neighbors(page).nth(1).get_by_role("button", name=re.compile("to the front$")).click()
        expect(neighbors(page).first).to_contain_text("your image")
        # What the visitor chose stays when the prompt changes.
        page.get_by_label("What should it show?").fill("a red fox")
        expect(page.get_by_text("2 images, chosen by you")).to_be_visible()
        page.get_by_role("button", name="Search again").click()
        expect(page.get_by_text("images that the prompt names")).to_be_visible()
        expect(page.get_by_text("your image", exact=True)).to_have_count(0)


def test_an_image_is_cut_out_before_it_is_drawn(browser: Browser, stack: Stack) -> None:
    with visit(browser, stack) as seen:
        page = seen.page
        write_prompt(page, "a red fox")
        photograph = Path("tests/generator/cut_out/data/coffee.jpg").read_bytes()
        drop(page, ".neighbor:nth-child(1)", photograph, media_type="image/jpeg")
        own, image = neighbors(page).first, neighbors(page).first.locator(".neighbor-image img")
        toggle = own.get_by_role("button", name=re.compile("^Cut .* out$"))
        expect(own).to_contain_text("your image")
        toggle.click()
        expect(image).to_have_attribute("alt", "a red fox, cut out")
        expect(toggle).to_have_attribute("aria-pressed", "true")
        assert image.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [512, 512]
        check_accessibility(page)
        draw(page)
        expect(images(page)).to_have_count(1)
        expect(page.locator(".grounding li").first).to_contain_text("your image, cut out")
        assert provenance(downloaded(page))["neighbors"][0]["cut_out"] is True

        # The whole image again.
        toggle.click()
        expect(image).to_have_attribute("alt", "a red fox")
        # An image without an object.
        drop(page, ".neighbor:nth-child(1)", plain())
        toggle.click()
        expect(own.get_by_role("status")).to_have_text("No object was found in the image, so it is used as it is.")


def plain() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def set_weight(page: Page, number: int, weight: str) -> None:
    neighbors(page).nth(number).get_by_label("Weight").fill(weight)


def test_a_dropped_image_restores_its_weights_and_steps(browser: Browser, stack: Stack) -> None:
    with visit(browser, stack) as seen:
        page = seen.page
        write_prompt(page, "a red fox and a kea")
        expect(neighbors(page)).to_have_count(2)
        set_weight(page, 1, "2.5")
        open_settings(page)
        page.get_by_label("Steps", exact=True).fill("3")
        draw(page)
        expect(images(page)).to_have_count(1)
        file = downloaded(page)
        assert [one["weight"] for one in provenance(file)["neighbors"]] == [1, 2.5]
    # The history of another browser does not have the image.
    with visit(browser, stack) as seen:
        page = seen.page
        drop(page, "main", file)
        expect(neighbors(page).locator(".weight .value")).to_have_text(["1.0", "2.5"])
        open_settings(page)
        expect(page.get_by_label("Steps", exact=True)).to_have_value("3")


@DEVICES
def test_stages_are_restored_from_an_image_and_changed(browser: Browser, stack: Stack, device: dict[str, Any]) -> None:
    stages = [{"size": 16, "sampler": "ddpm", "guidance": {"text_weight": 3.0}}]
    body = {"prompt": "a red fox", "seed": 7, "sampler": "ddim", "quality": "low", "guidance": {"strategy": "weighted"}}
    answer = httpx.post(f"{stack.origin}/v1/images/generations", json=body | {"stages": stages}, timeout=240).json()
    with visit(browser, stack, **device) as seen:
        page = seen.page
        drop(page, "main", base64.b64decode(answer["data"][0]["b64_json"]))
        expect(page.get_by_label("What should it show?")).to_have_value("a red fox")
        open_settings(page)
        expect(page.get_by_role("combobox", name="Sampler", exact=True)).to_have_value("ddim")
        expect(page.get_by_role("combobox", name="Guidance", exact=True)).to_have_value("weighted")
        page.get_by_text("Single stages 1 changed").click()
        first, last = (page.get_by_role("group", name=f"{size} px") for size in (16, 64))
        expect(first.get_by_label("Sampler")).to_have_value("ddpm")
        expect(first.get_by_label("Weight of the text")).to_have_value("3")
        # Weighted guidance has no η, and the last stage does not see the neighbors.
        expect(first.get_by_label("Text share")).to_have_count(0)
        expect(last.get_by_label("Weight of the neighbors")).to_have_count(0)
        check_accessibility(page)

        first.get_by_label("Guidance").select_option("interleaved")
        first.get_by_label("Text share").fill("0.25")
        first.get_by_label("Weight of the text").fill("")
        last.get_by_label("Steps").fill("3")
        last.get_by_label("Steps").press("Tab")
        draw(page)
        expect(images(page)).to_have_count(1)
        again = provenance(downloaded(page))
        assert again["settings"]["stages"] == [
            {"size": 16, "sampler": "ddpm", "guidance": {"strategy": "interleaved", "interleave_ratio": 0.25}},
            {"size": 64, "steps": 3},
        ]
        page.get_by_role("button", name="Reset the stages").click()
        expect(first.get_by_label("Sampler")).to_have_value("")
        expect(page.get_by_text("Single stages", exact=True)).to_be_visible()


def test_a_dropped_image_of_a_comparison_restores_its_own_neighbor(browser: Browser, stack: Stack) -> None:
    with visit(browser, stack) as seen:
        page = seen.page
        page.get_by_label("What should it show?").fill("a robot of mine")
        expect(neighbors(page)).to_have_count(1)
        paste(page, png((90, 10, 90)))
        expect(neighbors(page)).to_have_count(2)
        page.get_by_role("button", name="with / without").click()
        expect(images(page)).to_have_count(2)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download with neighbors", exact=True).click()
        drop(page, "main", Path(download.value.path()).read_bytes())
        # The image without neighbors has the same seed and prompt, and is newer.
        expect(page.get_by_text("Prompt, seed, neighbors and settings are restored.")).to_be_visible()
        expect(neighbors(page)).to_have_count(2)


def test_without_a_neighbor_the_page_says_why_and_offers_the_nearest(browser: Browser, stack: Stack) -> None:
    with visit(browser, stack) as seen:
        page = seen.page
        write_prompt(page, "a blue submarine")
        expect(page.get_by_text("No neighbor.")).to_be_visible()
        expect(page.locator(".candidates button")).to_have_count(1)
        check_accessibility(page)
        expect(page.get_by_role("button", name="Draw without neighbors")).to_be_enabled()
        page.get_by_role("button", name="Use a blue robot").click()
        expect(neighbors(page)).to_have_count(1)
        draw(page)
        expect(images(page)).to_have_count(1)
        assert [one["caption"] for one in provenance(downloaded(page))["neighbors"]] == ["a blue robot"]


@DEVICES
def test_a_pair_is_added_drawn_and_removed(browser: Browser, stack: Stack, device: dict[str, Any]) -> None:
    with visit(browser, stack, **device) as seen:
        page = seen.page
        page.get_by_role("link", name="base").click()
        expect(page.locator(".pair")).to_have_count(5)
        check_accessibility(page)
        page.get_by_role("button", name="Add an image").click()
        drop(page, ".add-image", png((250, 10, 250)))
        expect(page.get_by_alt_text("The image to add")).to_be_visible()
        page.get_by_label("Caption").fill("a pink axolotl")
        page.get_by_label("Source").fill("https://example.org/axolotl")
        page.get_by_label("License").fill("CC0-1.0")
        check_accessibility(page)
        page.get_by_role("button", name="Add", exact=True).click()
        expect(page.locator(".pair")).to_have_count(6)
        page.get_by_role("button", name="Draw from a pink axolotl").click()
        # The next search finds it, and within five seconds it is drawn.
        with page.expect_response("**/v1/knowledge/search"):
            page.get_by_label("What should it show?").fill("a pink axolotl at night")
            page.get_by_role("button", name="Search again").click()
        expect(neighbors(page)).to_have_count(1)
        expect(neighbors(page)).to_contain_text("CC0-1.0")
        draw(page)
        expect(images(page)).to_have_count(1, timeout=5_000)
        assert [one["caption"] for one in provenance(downloaded(page))["neighbors"]] == ["a pink axolotl"]
        page.get_by_role("link", name="base").click()
        page.get_by_label("Search the knowledge base").fill("axolotl")
        expect(page.locator(".pair")).to_have_count(1)
        page.get_by_role("button", name="Remove a pink axolotl").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(page.get_by_text(re.compile(r"Kept images that were drawn from it: \d\."))).to_be_visible()
        expect(page.get_by_text("Nothing found.")).to_be_visible()
        check_accessibility(page)


def test_an_own_neighbor_is_added_to_the_base(browser: Browser, stack: Stack) -> None:
    with visit(browser, stack) as seen:
        page = seen.page
        drop(page, "main", png((120, 120, 10)))
        neighbors(page).get_by_label("What your image shows").fill("a yellow submarine")
        page.get_by_role("button", name="Add to base").click()
        page.get_by_label("License").fill("MIT")
        page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
        expect(neighbors(page)).to_contain_text("MIT")
        page.get_by_role("link", name="base").click()
        page.get_by_role("button", name="Remove a yellow submarine").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(page.get_by_text("was removed")).to_be_visible()
