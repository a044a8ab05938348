"""Error responses over HTTP: a body that is both an RFC 9457 problem document and OpenAI's `error` object."""

import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from reimagen_common import metrics
from reimagen_common.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Overloaded,
    ReimagenError,
    Unauthenticated,
    Unavailable,
    from_validation_error,
)
from reimagen_common.http_methods import allowed_methods

_NOT_ALLOWED: Final = 405
_FAULT: Final = 500
_KINDS: Final = {
    error.http_status: error.kind for error in (NotFound, Overloaded, Unavailable, DeadlineExceeded, ReimagenError)
} | {408: DeadlineExceeded.kind}
# Errors of the middleware name their field only in the detail.
_FIELD: Final = re.compile(r"(address|body|host|content-length): ")


class OpenAIError(BaseModel):
    """An error as OpenAI's clients read it."""

    message: str = Field(description="What is wrong and what to do about it.")
    type: str = Field(description="Kind of the error.", examples=["invalid_request_error"])
    param: str | None = Field(None, description="The invalid field, if any.", examples=["prompt"])
    code: str = Field(
        description="Code of the error, such as `invalid_api_key`, or the name of the HTTP status.",
        examples=["bad_request"],
    )


class Problem(BaseModel):
    """The body of every error response (RFC 9457), which contains OpenAI's `error`."""

    type: str = Field("about:blank", description="RFC 9457's type: the title is that of the status.")
    title: str = Field(description="The HTTP status in words.", examples=["Bad Request"])
    status: int = Field(description="The HTTP status.", examples=[400])
    detail: str = Field(
        description="What is wrong and what to do about it. Begins with the name of the invalid field, if any.",
        examples=["prompt: must be 1 to 1,000 characters, got 10,000"],
    )
    field: str | None = Field(None, description="The invalid field, if any.", examples=["prompt"])
    error: OpenAIError


def _answer(
    *,
    status: int,
    kind: str,
    detail: str,
    field: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    title = HTTPStatus(status).phrase
    code = code or title.lower().replace(" ", "_").replace("-", "_")
    error = OpenAIError(message=detail, type=kind, param=field, code=code)
    problem = Problem(title=title, status=status, detail=detail, field=field, error=error)
    # `field` is omitted if it is null, but OpenAI's clients expect `param` even then.
    exclude = {"field"} if field is None else None
    return JSONResponse(
        problem.model_dump(exclude=exclude), status_code=status, headers=headers, media_type="application/problem+json"
    )


def openai_error(error: ReimagenError) -> OpenAIError:
    """Return the error as OpenAI's clients read it, for a stream whose status has already been sent."""
    return OpenAIError(message=error.message, type=error.kind, param=error.field, code=error.code or error.kind)


def answer_to(error: ReimagenError) -> JSONResponse:
    """Return the response to a request that failed with an error."""
    metrics.count_refusal("http", error)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(
        status=error.http_status,
        kind=error.kind,
        detail=error.message,
        field=error.field,
        code=error.code,
        headers=headers,
    )


def _from_reimagen(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ReimagenError)
    return answer_to(error)


def _from_validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    # The location begins with the part of the request (body, query, path), which is named only if there is no more.
    return answer_to(from_validation_error(first, first["loc"][1:] or first["loc"]))


def answer_to_http(error: HTTPException, scope: Scope) -> JSONResponse:
    """Return the response to a request that the server refuses. A detail like `host: ...` names the invalid field."""
    if error.status_code == Overloaded.http_status:
        metrics.OVERLOADED.labels("http").inc()
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = f"{detail}: {scope['method']} {scope['path']} (the service's paths are listed at /docs)"
    kind = _KINDS.get(error.status_code, ReimagenError.kind if error.status_code >= _FAULT else InvalidArgument.kind)
    named = _FIELD.match(detail)
    field = named[1] if named else None
    headers = error.headers
    if error.status_code == _NOT_ALLOWED:
        headers = {**(headers or {}), "Allow": ", ".join(allowed_methods(scope))}
    return _answer(status=error.status_code, kind=kind, detail=detail, field=field, headers=headers)


def _from_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer_to_http(error, request.scope)


def _from_unexpected(_request: Request, _error: Exception) -> JSONResponse:
    # Starlette raises the error again after this response. The server then logs it and closes the connection.
    return _answer(
        status=ReimagenError.http_status,
        kind=ReimagenError.kind,
        detail="the service failed; see its log for the cause",
        headers={"Connection": "close"},
    )


def register_error_handlers(app: FastAPI) -> None:
    """Make all errors of the app respond with a `Problem` (`application/problem+json`).

    A `ReimagenError` has its own status, and a `Retry-After` header if `retry_after` is set. An invalid request is 400
    and names the first invalid field. An unexpected error is 500 and is described only in the log.
    """
    app.add_exception_handler(ReimagenError, _from_reimagen)
    app.add_exception_handler(RequestValidationError, _from_validation)
    app.add_exception_handler(HTTPException, _from_http)
    app.add_exception_handler(Exception, _from_unexpected)
