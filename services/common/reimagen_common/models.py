"""Helpers for pydantic models of JSON requests."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, BeforeValidator, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


def whole(value: object) -> object:
    """Convert 2.0 to 2. JSON does not distinguish them, and some clients write all numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE: Final = BeforeValidator(whole)
"""A validator for integer fields, to be placed after their limits: `Annotated[int, Field(ge=1), WHOLE]`."""

_ABOUT: Final = frozenset({"title", "description", "default", "examples"})


class NullIsUnset(BaseModel):
    """A model that treats `null` in an optional field as unset, because clients in many languages send it."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None or name not in known}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Declare in the schema that optional fields may be null."""
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
    """Return the JSON schema of a rule between fields.

    Args:
        field: The field that the others depend on.
        value: The schema of the values for which the rule applies.
        others: The schemas that the other fields then have, by name.
        required: The fields that are then required.
    """
    then = {"properties": others} | ({"required": list(required)} if required else {})
    return {"if": {"properties": {field: value}, "required": [field]}, "then": then}
