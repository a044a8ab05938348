"""The rating page, requested as by a browser."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.rating import ratings
from reimagen_evaluation.rating.app import Session, create_app, questions

ITEMS = [Item(f"i{n}", f"prompt {n}", (), "", "") for n in range(6)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "ref").write_bytes(b"a reference")
    for setting, grounds in (("without", ""), ("secret-arm", "ref")):
        (tmp_path / setting).mkdir()
        for item in ITEMS:
            (tmp_path / setting / f"{item.key}.png").write_bytes(f"{setting} {item.key}".encode())
            row = {"key": item.key, "sample": 0, "file": f"{item.key}.png", "neighbors": grounds}
            records.append(tmp_path / setting / "drawn.csv", [row])
    return tmp_path


class Page:
    """The app, called in this process."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._ask("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self._ask("POST", path, **options)

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://page") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())


def client(out: Path) -> Page:
    return Page(create_app(Session(out, questions(out, ["without", "secret-arm"], ITEMS))))


def rate(page: Page, rater: str, place: int, entity: int = 1) -> int:
    said = {"rater": rater, "place": place, "entity": entity, "text": 1, "photorealism": 0}
    return page.post("/rating", json=said).status_code


def test_a_rater_rates_all_images_blind_and_can_pause(out: Path) -> None:
    seen = []
    for number in range(12):
        page = client(out)  # restarted for each image
        shown = page.get("/next", params={"rater": "ann"})
        asked = shown.json()
        assert (asked["rated"], asked["all"], asked["references"]) == (number, 12, 1)
        assert "secret" not in shown.text + page.get("/").text
        where = {"rater": "ann", "place": asked["place"]}
        seen.append(page.get("/image", params=where).text)
        assert seen[-1].endswith(asked["prompt"].replace("prompt ", " i"))
        # An image without retrieval is shown beside the reference too.
        assert page.get("/reference", params=where | {"number": 0}).text == "a reference"
        assert rate(page, "ann", asked["place"], entity=number % 2) == 204
    assert sorted(seen) == sorted(f"{setting} i{n}" for setting in ("without", "secret-arm") for n in range(6))
    assert client(out).get("/next", params={"rater": "ann"}).json()["place"] is None
    kept = records.read(out / "ratings.csv")
    assert len({(row["setting"], row["key"]) for row in kept}) == 12
    assert [row["entity"] for row in kept] == ["0", "1"] * 6
    # Settings come mixed, and for another rater in another order.
    assert seen != sorted(seen)
    order = [client(out).get("/image", params={"rater": "bob", "place": place}).text for place in range(12)]
    assert order != seen
    assert sorted(order) == sorted(seen)


def test_ratings_of_several_raters_are_averaged(out: Path) -> None:
    page = client(out)
    order = {rater: [page.get("/image", params={"rater": rater, "place": p}).text for p in range(12)] for rater in "ab"}
    for rater, entity in (("a", 1), ("b", 0)):
        assert rate(page, rater, order[rater].index("without i3"), entity) == 204
    expected = {"rated entity": "0.5", "rated text": "1", "rated photorealism": "0", "rated faithful": "0.5"}
    assert ratings.scores(out, "without") == {("i3", "0"): expected | {"rated failure": ""}}
    assert ratings.scores(out, "secret-arm") == {}


@pytest.mark.parametrize("wrong", [{"entity": 2}, {"rater": ""}, {"rater": "two\nlines"}, {"more": 1}, {"place": -1}])
def test_an_invalid_rating_is_refused_and_not_saved(out: Path, wrong: dict[str, object]) -> None:
    said = {"rater": "ann", "place": 0, "entity": 1, "text": 1, "photorealism": 1} | wrong
    assert client(out).post("/rating", json=said).status_code == 422
    assert rate(client(out), "ann", 99) == 404
    assert not (out / "ratings.csv").exists()
