"""What the models of JSON requests share."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, BeforeValidator, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


def whole(value: object) -> object:
    """Read 2.0 as 2: to JSON they are one number, and some clients write all numbers so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE: Final = BeforeValidator(whole)
"""For fields that are whole numbers, behind their limits: `Annotated[int, Field(ge=1), WHOLE]`."""

_ABOUT: Final = frozenset({"title", "description", "default", "examples"})


class NullIsUnset(BaseModel):
    """A model for which `null` means that an optional field was not given, as clients in many languages send it."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None or name not in known}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Tell in the schema that optional fields may be null."""
        schema = handler(core_schema)
        model = handler.resolve_ref_schema(schema)
        required = model.get("required", ())
        model["properties"] = {
            name: field if name in required else _nullable(field) for name, field in model.get("properties", {}).items()
        }
        return schema


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    about = {name: value for name, value in field.items() if name in _ABOUT}
    value = {name: value for name, value in field.items() if name not in _ABOUT}
    either = value["anyOf"] if value.keys() == {"anyOf"} else [value]
    if {"type": "null"} in either:
        return field
    return {"anyOf": [*either, {"type": "null"}], **about}


def when(
    field: str, value: dict[str, Any], others: dict[str, Any], *, required: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the schema of a rule between fields.

    Args:
        field: The one that the others depend on.
        value: The schema of its values for which they do.
        others: The schemas that they then have, by their names.
        required: Those that must then be given.
    """
    then = {"properties": others} | ({"required": list(required)} if required else {})
    return {"if": {"properties": {field: value}, "required": [field]}, "then": then}
