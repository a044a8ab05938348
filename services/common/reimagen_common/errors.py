"""The hierarchy of errors, with their gRPC and HTTP statuses.

Services raise these errors. `grpc_server` and `http_errors` convert them to responses, and `from_rpc_error` converts
the gRPC status of another service back into one of them. Over gRPC, the trailing metadata `reimagen-field` contains the
field, `reimagen-code` the code, and gRPC's standard `grpc-retry-pushback-ms` the pause before a retry.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import grpc

from reimagen_common.secrets import masked

FIELD_KEY = "reimagen-field"
CODE_KEY = "reimagen-code"
RETRY_KEY = "grpc-retry-pushback-ms"

NOT_BLANK = r"[^\s\x1c-\x1f\x85\ufeff]"
"""A pattern of text that is not blank. It lists all spaces, because regex dialects define them differently."""


class ReimagenError(Exception):
    """An error that is reported to the client. The base class stands for internal errors of the service.

    Args:
        message: What is wrong and what to do about it. Passwords in URLs are masked.
        field: The invalid field of the request. If set, the message begins with its name.
        retry_after: Seconds after which a retry may succeed.
    """

    grpc_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    http_status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    """The machine-readable code of the error, as OpenAI's clients read it. None: the name of the HTTP status."""

    def __init__(self, message: str, *, field: str | None = None, retry_after: float | None = None) -> None:
        # JSON can contain lone surrogates, which cannot be encoded in responses.
        message = masked(message.encode("utf-8", "backslashreplace").decode())
        self.message = f"{field}: {message}" if field else message
        self.field = field
        self.retry_after = retry_after
        super().__init__(self.message)


class InvalidArgument(ReimagenError):
    """The request is invalid. Retrying it unchanged cannot succeed."""

    grpc_code = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 400
    kind = "invalid_request_error"


class Unauthenticated(ReimagenError):
    """The request has no valid API key."""

    grpc_code = grpc.StatusCode.UNAUTHENTICATED
    http_status = 401
    kind = "invalid_request_error"
    code = "invalid_api_key"


class PermissionDenied(ReimagenError):
    """The API key lacks the right that the request needs."""

    grpc_code = grpc.StatusCode.PERMISSION_DENIED
    http_status = 403
    kind = "invalid_request_error"
    code = "insufficient_permissions"


class Unprocessable(InvalidArgument):
    """The request contradicts an earlier one, such as another request with the same idempotency key."""

    http_status = 422


class ContentPolicyViolation(InvalidArgument):
    """The operator's policy refuses the request.

    Over gRPC it is INVALID_ARGUMENT, not PERMISSION_DENIED: another key would not help, only another request.
    """

    code = "content_policy_violation"


class Conflict(ReimagenError):
    """The request needs something that another request uses now. Retry later."""

    grpc_code = grpc.StatusCode.ABORTED
    http_status = 409
    kind = "conflict_error"


class NotFound(ReimagenError):
    """The entity that the request names does not exist."""

    grpc_code = grpc.StatusCode.NOT_FOUND
    http_status = 404
    kind = "not_found_error"


class Damaged(ReimagenError):
    """Stored data differs from what was written. It must be restored or rebuilt."""


class Overloaded(ReimagenError):
    """Too many requests are waiting. Retry later."""

    grpc_code = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = 429
    kind = "overloaded_error"


class LimitExceeded(ReimagenError):
    """The API key has used up its rate limit. Unlike `Overloaded`, more replicas do not help."""

    grpc_code = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"


class QuotaExceeded(LimitExceeded):
    """The API key has used up its quota."""

    code = "insufficient_quota"


class Unavailable(ReimagenError):
    """The service, or a service that it depends on, is starting, stopping or down."""

    grpc_code = grpc.StatusCode.UNAVAILABLE
    http_status = 503
    kind = "unavailable_error"


class DeadlineExceeded(ReimagenError):
    """The deadline of the request passed."""

    grpc_code = grpc.StatusCode.DEADLINE_EXCEEDED
    http_status = 504
    kind = "timeout_error"


_BY_CODE: dict[grpc.StatusCode, type[ReimagenError]] = {
    error.grpc_code: error
    for error in (
        InvalidArgument,
        Unauthenticated,
        PermissionDenied,
        Conflict,
        NotFound,
        Overloaded,
        Unavailable,
        DeadlineExceeded,
    )
}


def from_validation_error(error: Mapping[str, Any], location: Sequence[str | int]) -> InvalidArgument:
    """Convert an error of pydantic, with the same wording over HTTP and gRPC.

    Args:
        error: An entry of pydantic's `errors()`. The message omits the invalid value, which may be long or private.
        location: The path to the invalid field, such as `("guidance", "text_weight")`.
    """
    if error["type"] == "json_invalid":
        return InvalidArgument(f"is not JSON: {error['ctx']['error']}", field="body")
    field = ".".join(str(part) for part in location)
    if field == "body":
        return InvalidArgument("send a JSON object with Content-Type: application/json", field=field)
    return InvalidArgument(_wording(error), field=field)


def _wording(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "there is no such field"
        case "missing":
            return "is required"
        case "too_long":
            return f"must have at most {error['ctx']['max_length']:,} entries, got {_count(error)}"
        case "too_short":
            return f"must have {error['ctx']['min_length']:,} or more entries, got {_count(error)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be an object, such as {...}"
        case "tuple_type" | "list_type":
            return "must be a list, such as [...]"
        case "string_pattern_mismatch" if error["ctx"]["pattern"] == NOT_BLANK:
            return "must not be blank"
    if "UploadFile" in error["msg"]:
        return "must be a file; send the form as multipart/form-data"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _count(error: Mapping[str, Any]) -> str:
    actual = error["ctx"].get("actual_length")
    return "more" if actual is None else f"{actual:,}"


def first_fault(error: Any) -> str:
    """Return a sentence about the first error in a pydantic.ValidationError, worded as for requests."""
    first = error.errors(include_url=False)[0]
    return from_validation_error(first, first["loc"]).message


def from_rpc_error(error: grpc.RpcError) -> ReimagenError:
    """Return the error that another service raised, from the error of its gRPC client.

    A status without a class of its own becomes a plain `ReimagenError` that names the status.
    """
    call: Any = error  # An RpcError is also a grpc.Call, unlike its type stubs say.
    if not isinstance(call, grpc.Call):
        return ReimagenError(str(error) or type(error).__name__)
    message = call.details() or ""
    trailers = {key: value for key, value in call.trailing_metadata() or () if isinstance(value, str)}
    field = trailers.get(FIELD_KEY)
    if field:
        message = message.removeprefix(f"{field}: ")
    pushback = trailers.get(RETRY_KEY)
    retry_after = int(pushback) / 1000 if pushback else None
    kind = _BY_CODE.get(call.code())
    if kind is None:
        return ReimagenError(f"{call.code().name}: {message}", field=field, retry_after=retry_after)
    return kind(message, field=field, retry_after=retry_after)
