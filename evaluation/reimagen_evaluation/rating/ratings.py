"""Human ratings of images, one line each in OUT/ratings.csv."""

from collections import Counter
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from reimagen_evaluation import records

RATINGS: Final = "ratings.csv"


class Rating(BaseModel):
    """One person's rating of one image, with the paper's questions (section 4.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rater: str = Field(pattern=r"^[^\r\n]{1,80}$", description="Name of the rater, 1 to 80 characters.")
    place: int = Field(ge=0, description="Index of the image in this rater's order, from 0.")
    entity: Literal[0, 1] = Field(description="1 if the entity looks as in the reference, else 0.")
    text: Literal[0, 1] = Field(description="1 if the image shows what the text says, else 0.")
    photorealism: Literal[0, 1] = Field(
        description="1 if the image is moderately realistic without noticeable artifacts."
    )
    failure: str = Field("", pattern=r"^[^\r\n]{0,80}$", description="Kind of failure; empty if the rater names none.")


def scores(out: Path, setting: str) -> dict[tuple[str, str], dict[str, str]]:
    """Return a setting's mean ratings over all raters and most frequent kind of failure, by item and sample."""
    rows_by_image: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in records.read(out / RATINGS):
        if row["setting"] == setting:
            rows_by_image.setdefault((row["key"], row["sample"]), []).append(row)
    ratings = {}
    for place, rows in rows_by_image.items():
        columns = {name: [int(row[name]) for row in rows] for name in ("entity", "text", "photorealism")}
        columns["faithful"] = [e * t for e, t in zip(columns["entity"], columns["text"], strict=True)]
        ratings[place] = {f"rated {name}": f"{sum(values) / len(values):.6g}" for name, values in columns.items()}
        kinds = Counter(row["failure"] for row in rows if row["failure"])
        ratings[place]["rated failure"] = kinds.most_common(1)[0][0] if kinds else ""
    return ratings
