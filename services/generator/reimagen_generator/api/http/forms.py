"""Convert the text fields of forms and query strings to the values that the same fields have in JSON."""

import json
import re
import types
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from reimagen_common.errors import InvalidArgument, from_validation_error

_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)", re.DOTALL)
_KEY: Final = re.compile(r"\[([^\[\]]*)\]", re.DOTALL)
_DEEPEST: Final = 4
_BOOLEANS: Final = {"true": True, "false": False}

_Model = TypeVar("_Model", bound=BaseModel)


def parse_fields(
    items: Iterable[tuple[str, str]], model: type[_Model], *, empty_is_null: bool = True, **values: Any
) -> _Model:
    """Validate text fields as a model.

    Args:
        items: The names and texts of the fields, in order. The name of a nested field is that of OpenAI's clients, such
            as `retrieval[k]`, or the outer field is JSON, such as `retrieval={"k": 2}`. A list is JSON, or its name is
            repeated, with or without `[]`.
        model: The model.
        empty_is_null: Whether an empty text and the text `null` stand for null, as in the forms of OpenAI's clients.
        values: Further fields of the model, which are not text.

    Raises:
        InvalidArgument: A field is invalid. The error names the first one.
    """
    try:
        return model.model_validate(field_values(items, model, empty_is_null=empty_is_null) | values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise from_validation_error(first, first["loc"]) from error


def field_values(
    items: Iterable[tuple[str, str]], model: type[BaseModel], *, empty_is_null: bool = True
) -> dict[str, Any]:
    """Return the values of text fields as in JSON. Texts that are not of the field's type are left for the model.

    Raises:
        InvalidArgument: A field is given twice, or both as a whole and in parts.
    """
    texts: dict[tuple[str, ...], list[str]] = {}
    for name, text in items:
        texts.setdefault(_path(name), []).append(text)
    values: dict[str, Any] = {}
    for path, given in texts.items():
        _put(
            values,
            path,
            _convert(
                given,
                _annotation(model, path),
                field=".".join(path),
                empty_is_null=empty_is_null and not _required(model, path),
            ),
        )
    return values


def _path(name: str) -> tuple[str, ...]:
    """Return the parts of a name such as `retrieval[licenses][]`; a name of another form is one part."""
    found = _NAME.fullmatch(name)
    if found is None:
        return (name,)
    keys = _KEY.findall(found[2])
    if keys and keys[-1] == "":
        keys.pop()
    return (found[1], *keys) if len(keys) < _DEEPEST else (name,)


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    inner: Any = values
    for key in path[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or path[-1] in inner:
        raise InvalidArgument("must be given either as a whole or in parts, not both", field=path[0])
    inner[path[-1]] = value


def _annotation(model: type[BaseModel], path: tuple[str, ...]) -> Any:
    """Return the type of a field, or None if there is no such field."""
    annotation: Any = model
    for key in path:
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        fields = {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
        annotation = _without_none(fields.get(key))
    return annotation


def _required(model: type[BaseModel], path: tuple[str, ...]) -> bool:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    return path[0] in fields and fields[path[0]].is_required()


def _without_none(annotation: Any) -> Any:
    """Return the type without `Annotated` and without None."""
    if get_origin(annotation) is Annotated:
        return _without_none(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        others = [one for one in get_args(annotation) if one is not types.NoneType]
        return _without_none(others[0]) if len(others) == 1 else annotation
    return annotation


def _convert(texts: list[str], annotation: Any, *, field: str, empty_is_null: bool) -> Any:
    if get_origin(annotation) in (tuple, list):
        item = _without_none(get_args(annotation)[0])
        if len(texts) == 1:
            whole = _from_json(texts[0])
            if isinstance(whole, list):
                return whole
            if texts[0] == "" and not _is_text(item):
                return None
        return [text if _is_text(item) else _from_text(text, item) for text in texts]
    if len(texts) > 1:
        raise InvalidArgument(f"must be given once, got {len(texts):,} times", field=field)
    if texts[0] == "" and empty_is_null:
        return None
    value = _from_text(texts[0], annotation)
    return texts[0] if value is None and not empty_is_null else value


def _from_text(text: str, annotation: Any) -> Any:
    if annotation is None or _is_text(annotation):
        return text
    if annotation is bool:
        return _BOOLEANS.get(text.lower(), text)
    return _from_json(text)


def _from_json(text: str) -> Any:
    """Return the value of a JSON text, or the text itself if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return all(isinstance(value, str) for value in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, str | Enum)
