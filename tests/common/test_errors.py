"""Messages of pydantic's validation errors."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reimagen_common.errors import NOT_BLANK, first_fault


class Place(BaseModel):
    x: int = 0


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(pattern=NOT_BLANK)] = "a"
    ids: tuple[str, ...] = Field((), min_length=1, max_length=3)
    names: list[str] = []
    place: Place = Place()


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ({"ids": ["a"] * 5}, "ids: must have at most 3 entries, got 5"),
        ({"ids": []}, "ids: must have 1 or more entries, got 0"),
        ({"ids": "a"}, "ids: must be a list, such as [...]"),
        ({"names": 1}, "names: must be a list, such as [...]"),
        ({"place": 1}, "place: must be an object, such as {...}"),
        ({"place": {"x": "one"}}, "place.x: should be a valid integer, unable to parse string as an integer"),
        ({"text": " \n"}, "text: must not be blank"),
        ({"txt": "a"}, "txt: there is no such field"),
    ],
)
def test_an_error_is_a_sentence_that_names_its_field(given: dict[str, Any], reported: str) -> None:
    with pytest.raises(ValidationError) as found:
        Request.model_validate(given)
    assert first_fault(found.value) == reported
