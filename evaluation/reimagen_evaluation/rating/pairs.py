"""The server of the page of blind pairs: two settings' images of one prompt side by side, in a random order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Annotated, Final, Literal

import numpy as np
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.report import statistics
from reimagen_evaluation.report.statistics import Estimate
from reimagen_evaluation.runs import DRAWN

PREFERENCES: Final = "preferences.csv"
NEITHER: Final = "neither"
_PAGE = Path(__file__).with_name("pairs.html")
_Rater = Annotated[str, Query(min_length=1, max_length=80)]
_Side = Literal["left", "right"]


@dataclass(frozen=True)
class Pair:
    """Two settings' images of one prompt."""

    key: str
    prompt: str
    images: tuple[Path, Path]
    references: tuple[Path, ...]


class Choice(BaseModel):
    """One person's preference in one pair."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rater: str = Field(pattern=r"^[^\r\n]{1,80}$", description="Name of the rater, 1 to 80 characters.")
    place: int = Field(ge=0, description="Index of the pair in this rater's order, from 0.")
    preferred: Literal["left", "right", "neither"] = Field(
        description="The preferred image; neither if both are equal."
    )


def pairs(out: Path, first: str, second: str, items: Sequence[Item], count: int) -> list[Pair]:
    """Return the pairs of the first items that both settings have drawn.

    Raises:
        InvalidArgument: the settings have no item in common.
    """
    drawn = [
        {row["key"]: row for row in records.read(out / setting / DRAWN) if row["sample"] == "0"}
        for setting in (first, second)
    ]
    common = [item for item in items if all(item.key in rows for rows in drawn)][:count]
    if not common:
        raise InvalidArgument(f"{first} and {second} have no images of the same prompts in {out}")
    found = []
    for item in common:
        rows = [by_key[item.key] for by_key in drawn]
        names = next((row["neighbors"] for row in rows if row["neighbors"]), "")
        left, right = (out / setting / row["file"] for setting, row in zip((first, second), rows, strict=True))
        references = tuple(out / "references" / name for name in names.split())
        found.append(Pair(item.key, item.prompt, (left, right), references))
    return found


def preference(out: Path, first: str, second: str) -> Estimate | None:
    """Return the share of prompts for which more raters prefer the first setting than do not; None without ratings.

    Raters who prefer neither count against it.
    """
    votes: dict[str, int] = {}
    for row in records.read(out / PREFERENCES):
        if (row["first"], row["second"]) == (first, second):
            votes[row["key"]] = votes.get(row["key"], 0) + (1 if row["preferred"] == first else -1)
    return statistics.mean(np.array([float(vote > 0) for vote in votes.values()]))


class PairSession:
    """The pairs of two settings and the preferences given."""

    def __init__(self, out: Path, settings: tuple[str, str], to_compare: Sequence[Pair]) -> None:
        """Take the sweep's folder, which holds preferences.csv, the settings' names and the pairs."""
        self._file = out / PREFERENCES
        self._settings = settings
        self._pairs = to_compare

    def next(self, rater: str) -> dict[str, object]:
        """Return the first pair that a rater has not compared: its place, prompt and number of references."""
        given = {
            row["key"]
            for row in records.read(self._file)
            if row["rater"] == rater and (row["first"], row["second"]) == self._settings
        }
        counts = {"compared": len(given), "all": len(self._pairs)}
        for place, pair in enumerate(self._order(rater)):
            if pair.key not in given:
                return {"place": place, "prompt": pair.prompt, "references": len(pair.references), **counts}
        return {"place": None, **counts}

    def pair(self, rater: str, place: int) -> Pair:
        """Return the pair at a place in a rater's order, which depends only on the rater's name.

        Raises:
            HTTPException: there is no such place.
        """
        if not 0 <= place < len(self._pairs):
            raise HTTPException(404, f"place: must be from 0 to {len(self._pairs) - 1}, got {place}")
        return self._order(rater)[place]

    def image(self, rater: str, place: int, side: _Side) -> Path:
        """Return the image that a rater sees on a side."""
        return self.pair(rater, place).images[self._shown(rater, place, side)]

    def choose(self, choice: Choice) -> None:
        """Append a preference to preferences.csv and flush it to the disk."""
        pair = self.pair(choice.rater, choice.place)
        preferred = NEITHER
        if choice.preferred != "neither":
            preferred = self._settings[self._shown(choice.rater, choice.place, choice.preferred)]
        facts = {"rater": choice.rater, "first": self._settings[0], "second": self._settings[1], "key": pair.key}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        records.append(self._file, [facts | {"preferred": preferred, "at": at}])

    def _shown(self, rater: str, place: int, side: _Side) -> int:
        """Return the index of the setting that a rater sees on a side."""
        swapped = Random(f"{rater}/{self.pair(rater, place).key}").random() < 0.5  # noqa: S311
        return int(swapped == (side == "left"))

    def _order(self, rater: str) -> list[Pair]:
        return Random(rater).sample(list(self._pairs), len(self._pairs))  # noqa: S311


def create_app(session: PairSession) -> FastAPI:
    """Return the application that serves the page and its requests."""
    app = FastAPI(title="Blind pairs", docs_url=None, redoc_url=None)

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return _PAGE.read_text(encoding="utf-8")

    @app.get("/next")
    def next_pair(rater: _Rater) -> dict[str, object]:
        return session.next(rater)

    @app.get("/image")
    def image(rater: _Rater, place: int, side: _Side) -> FileResponse:
        return FileResponse(session.image(rater, place, side))

    @app.get("/reference")
    def reference(rater: _Rater, place: int, number: int) -> FileResponse:
        references = session.pair(rater, place).references
        if not 0 <= number < len(references):
            raise HTTPException(404, f"number: must be from 0 to {len(references) - 1}, got {number}")
        return FileResponse(references[number])

    @app.post("/choice", status_code=204)
    def choose(choice: Choice) -> None:
        session.choose(choice)

    return app
