"""Reading of a benchmark or a sweep from a TOML file."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from reimagen_common.errors import InvalidArgument, from_validation_error

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path, model: type[Model]) -> Model:
    """Read a file into a model.

    Raises:
        InvalidArgument: the file is not TOML, or a field is invalid; the message names it.
    """
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise from_validation_error(first, first["loc"]) from error
