"""The server of the rating page: one image at a time, with its prompt and references, but not its setting."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, HTMLResponse

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.rating.ratings import RATINGS, Rating
from reimagen_evaluation.report.failures import KINDS
from reimagen_evaluation.runs import DRAWN

_PAGE = Path(__file__).with_name("page.html")
_Rater = Annotated[str, Query(min_length=1, max_length=80)]


@dataclass(frozen=True)
class Question:
    """An image to rate."""

    setting: str
    key: str
    sample: str
    prompt: str
    image: Path
    references: tuple[Path, ...]


def questions(out: Path, settings: Sequence[str], items: Sequence[Item], grounded: str | None = None) -> list[Question]:
    """Return all images of the settings as questions.

    All settings' images of a prompt are shown with the same references, even if a setting drew without references. They
    are those of the setting `grounded`, or of the first setting that has any.

    Raises:
        InvalidArgument: a setting has no images.
    """
    drawn = {setting: records.read(out / setting / DRAWN) for setting in settings}
    if empty := [setting for setting, rows in drawn.items() if not rows]:
        raise InvalidArgument(f"no images of {', '.join(empty)} in {out}; run `reimagen-evaluate sweep` first")
    references: dict[str, tuple[Path, ...]] = {}
    for setting in (*([grounded] if grounded else []), *settings):
        for row in drawn[setting]:
            if row["neighbors"]:
                references.setdefault(row["key"], tuple(out / "references" / n for n in row["neighbors"].split()))
    prompts = {item.key: item.prompt for item in items}
    return [
        Question(
            setting, row["key"], row["sample"], prompts[row["key"]], out / setting / row["file"],
            references.get(row["key"], ()),
        )
        for setting, rows in drawn.items()
        for row in rows
    ]  # fmt: skip


class Session:
    """The questions and the ratings given."""

    def __init__(self, out: Path, to_rate: Sequence[Question]) -> None:
        """Take the sweep's folder, which holds ratings.csv, and the questions."""
        self._file = out / RATINGS
        self._questions = to_rate

    def question(self, rater: str, place: int) -> Question:
        """Return the question at a place in a rater's order, which depends only on the rater's name.

        Raises:
            HTTPException: there is no such place.
        """
        if not 0 <= place < len(self._questions):
            raise HTTPException(404, f"place: must be from 0 to {len(self._questions) - 1}, got {place}")
        return self._order(rater)[place]

    def next(self, rater: str) -> dict[str, object]:
        """Return the first question that a rater has not answered: its place, prompt and number of references."""
        given = [row for row in records.read(self._file) if row["rater"] == rater]
        rated = {(row["setting"], row["key"], row["sample"]) for row in given}
        counts = {"rated": len(rated), "all": len(self._questions), "kinds": list(KINDS)}
        for place, shown in enumerate(self._order(rater)):
            if (shown.setting, shown.key, shown.sample) not in rated:
                return {"place": place, "prompt": shown.prompt, "references": len(shown.references), **counts}
        return {"place": None, **counts}

    def rate(self, rating: Rating) -> None:
        """Append a rating to ratings.csv and flush it to the disk."""
        shown = self.question(rating.rater, rating.place)
        facts = {"rater": rating.rater, "setting": shown.setting, "key": shown.key, "sample": shown.sample}
        answers = rating.model_dump(include={"entity", "text", "photorealism", "failure"})
        records.append(self._file, [facts | answers | {"at": datetime.now(UTC).isoformat(timespec="seconds")}])

    def _order(self, rater: str) -> list[Question]:
        return Random(rater).sample(list(self._questions), len(self._questions))  # noqa: S311


def create_app(session: Session) -> FastAPI:
    """Return the application that serves the page and its requests."""
    app = FastAPI(title="Rating", docs_url=None, redoc_url=None)

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return _PAGE.read_text(encoding="utf-8")

    @app.get("/next")
    def next_question(rater: _Rater) -> dict[str, object]:
        return session.next(rater)

    @app.get("/image")
    def image(rater: _Rater, place: int) -> FileResponse:
        return FileResponse(session.question(rater, place).image)

    @app.get("/reference")
    def reference(rater: _Rater, place: int, number: int) -> FileResponse:
        references = session.question(rater, place).references
        if not 0 <= number < len(references):
            raise HTTPException(404, f"number: must be from 0 to {len(references) - 1}, got {number}")
        return FileResponse(references[number])

    @app.post("/rating", status_code=204)
    def rate(rating: Rating) -> None:
        session.rate(rating)

    return app
