"""The page of blind pairs, requested as by a browser."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.rating.pairs import PairSession, create_app, pairs, preference

ITEMS = [Item(f"i{n}", f"prompt {n}", (), "", "") for n in range(8)]
SETTINGS = ("new-arm", "old-arm")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "ref").write_bytes(b"a reference")
    for setting, count in zip(SETTINGS, (8, 7), strict=True):
        (tmp_path / setting).mkdir()
        for item in ITEMS[:count]:
            (tmp_path / setting / f"{item.key}.png").write_bytes(f"{setting} {item.key}".encode())
            row = {"key": item.key, "sample": 0, "file": f"{item.key}.png", "neighbors": "ref"}
            records.append(tmp_path / setting / "drawn.csv", [row])
    return tmp_path


def ask(out: Path, method: str, path: str, **options: Any) -> httpx.Response:
    app = create_app(PairSession(out, SETTINGS, pairs(out, *SETTINGS, ITEMS, 6)))  # restarted for each request

    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as client:
            return await client.request(method, path, **options)

    return asyncio.run(answer())


def compare(out: Path, rater: str, favorite: str | None) -> list[str]:
    """Choose the favorite setting's image in all pairs, or neither; return what was on the left."""
    left = []
    while (asked := ask(out, "GET", "/next", params={"rater": rater}).json())["place"] is not None:
        assert not any(setting in str(asked) for setting in SETTINGS)
        where = {"rater": rater, "place": asked["place"]}
        shown = {side: ask(out, "GET", "/image", params=where | {"side": side}).text for side in ("left", "right")}
        key = asked["prompt"].replace("prompt ", "i")
        assert sorted(shown.values()) == [f"{setting} {key}" for setting in SETTINGS]
        assert ask(out, "GET", "/reference", params=where | {"number": 0}).text == "a reference"
        left.append(shown["left"].split()[0])
        preferred = next((side for side, text in shown.items() if favorite and text.startswith(favorite)), "neither")
        assert ask(out, "POST", "/choice", json=where | {"preferred": preferred}).status_code == 204
    return left


def test_a_rater_compares_each_pair_once_with_the_sides_shuffled(out: Path) -> None:
    left = compare(out, "ann", "new-arm")
    assert len(left) == 6
    assert set(left) == set(SETTINGS)  # each setting is on the left sometimes
    assert {row["preferred"] for row in records.read(out / "preferences.csv")} == {"new-arm"}
    measured = preference(out, *SETTINGS)
    assert measured is not None
    assert (measured.value, measured.n) == (1.0, 6)


def test_a_tie_counts_against_the_first_setting(out: Path) -> None:
    assert preference(out, *SETTINGS) is None
    compare(out, "ann", "new-arm")
    compare(out, "bob", None)
    measured = preference(out, *SETTINGS)
    assert measured is not None
    assert measured.value == 0.0
    compare(out, "cy", "new-arm")
    measured = preference(out, *SETTINGS)
    assert measured is not None
    assert measured.value == 1.0


def test_settings_without_common_prompts_are_refused(out: Path) -> None:
    with pytest.raises(InvalidArgument, match="no images of the same prompts"):
        pairs(out, "new-arm", "absent", ITEMS, 6)
