"""Complete an application's OpenAPI document with the error responses that FastAPI does not declare."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from reimagen_common.access.rights import Right, Rights
from reimagen_common.access.routes import METRICS, documented
from reimagen_common.http_errors import Problem

Document = dict[str, Any]

_PROBLEM: Final = "application/problem+json"
_REF: Final = "#/components/schemas/{model}"
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete"})
_FIRST_ERROR: Final = 400
# FastAPI's models of validation errors, which are replaced by `Problem` with status 400.
_FASTAPI_MODELS: Final = ("HTTPValidationError", "ValidationError")

_FASTAPI_422: Final = "Validation Error"

_COMMON: Final = {
    "400": "A field is invalid; `field` names it.",
    "421": "The service does not accept this `Host`.",
    "431": "The URL or the headers are too long.",
    "500": "The service failed; see its log for the cause.",
}
_WITH_BODY: Final = {
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "429": "Too many requests are waiting, or too many uploads are in progress; `Retry-After` says when to retry.",
}
_SCHEME: Final = "api_key"
_SCHEMES: Final = {
    _SCHEME: {"type": "http", "scheme": "bearer", "description": "An API key, which the operator of the service makes."}
}
_UNAUTHENTICATED: Final = "The API key is missing, unknown, revoked or expired."
_CHALLENGE: Final = {"description": "The scheme of `Authorization`.", "schema": {"const": "Bearer"}}
_RETRY_AFTER: Final = {"description": "Seconds until a retry may succeed.", "schema": {"type": "integer", "minimum": 1}}
_RETRYABLE: Final = ("429", "503")


def describe_api(
    app: FastAPI,
    *,
    rights: Rights | None = None,
    models: Sequence[type[BaseModel]] = (),
    adapt: Callable[[Document], None] | None = None,
) -> None:
    """Add all error responses to the application's OpenAPI document.

    Args:
        app: The application. Its routes may be added later.
        rights: The right that each route requires. None if no keys are required.
        models: Models that are referred to by name but occur in no route, such as the events of a stream.
        adapt: A function that changes the finished document, such as to describe what was loaded.
    """

    def openapi() -> Document:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _complete(document, models)
            if rights is not None:
                _secure(document, rights)
            if adapt is not None:
                adapt(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation recommends


def event_stream(events: Sequence[type[BaseModel]]) -> Document:
    """Return the media type object of server-sent events with the models as data."""
    either = [{"$ref": _REF.format(model=event.__name__)} for event in events]
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"oneOf": either}}
    event = {"type": "string", "description": "The `type` of the data."}
    return {
        "itemSchema": {"type": "object", "properties": {"event": event, "data": data}, "required": ["event", "data"]}
    }


def binary(*media_types: str) -> dict[str, Document]:
    """Return the content object of a response that is a file."""
    return {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}


def operations(document: Document) -> Iterator[Document]:
    """Yield each operation of a document."""
    for path in document["paths"].values():
        yield from (operation for method, operation in path.items() if method in _METHODS)


def _complete(document: Document, models: Sequence[type[BaseModel]]) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _FASTAPI_MODELS:
        schemas.pop(name, None)
    added: tuple[type[BaseModel], ...] = (Problem, *models)
    _, definitions = models_json_schema([(model, "serialization") for model in added], ref_template=_REF)
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    for operation in operations(document):
        responses = operation["responses"]
        if responses.get("422", {}).get("description") == _FASTAPI_422:
            del responses["422"]
        for status, description in (_COMMON | (_WITH_BODY if "requestBody" in operation else {})).items():
            responses.setdefault(status, {"description": description})
        for status, response in responses.items():
            if int(status) >= _FIRST_ERROR:
                response["content"] = {_PROBLEM: {"schema": {"$ref": _REF.format(model=Problem.__name__)}}}
            if status in _RETRYABLE:
                response.setdefault("headers", {})["Retry-After"] = _RETRY_AFTER
        operation["responses"] = dict(sorted(responses.items()))


def _secure(document: Document, rights: Rights) -> None:
    """Declare which operations require a key, and how they refuse those without."""
    document["components"]["securitySchemes"] = _SCHEMES
    by_operation = {documented(name): right for name, right in rights.items()}
    for path, item in document["paths"].items():
        for method in item.keys() & _METHODS:
            name = f"{method.upper()} {path}"
            right = by_operation[name]
            if right is not None:
                _secure_operation(item[method], right)
            if name == METRICS:  # Requests from this machine need no key.
                item[method]["security"].append({})


def _secure_operation(operation: Document, right: Right) -> None:
    operation["security"] = [{_SCHEME: []}]
    responses = operation["responses"]
    content = {_PROBLEM: {"schema": {"$ref": _REF.format(model=Problem.__name__)}}}
    responses["401"] = {
        "description": _UNAUTHENTICATED,
        "headers": {"WWW-Authenticate": _CHALLENGE},
        "content": content,
    }
    limited = responses.setdefault("429", {"description": "", "content": content})
    limited["description"] = f"{limited['description']} The API key has used up its limit.".strip()
    limited.setdefault("headers", {})["Retry-After"] = _RETRY_AFTER
    lacking = f"The API key lacks the right `{right.value}`."
    others = responses.get("403", {}).get("description")
    responses["403"] = {"description": f"{others} {lacking}" if others else lacking, "content": content}
    operation["responses"] = dict(sorted(responses.items()))
