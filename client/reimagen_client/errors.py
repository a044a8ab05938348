"""The errors that clients raise, by what the caller can do about them."""

from collections.abc import Mapping
from typing import Any, Final


class ReimagenError(Exception):
    """An error of a request. The subclasses say what can be done about it.

    Args:
        message: What is wrong and what to do about it.
        status: The HTTP status, or None if no answer arrived or the request was sent over gRPC.
        field: The invalid field of the request, if any.
        code: The machine-readable code of the error, such as `invalid_api_key`.
        retry_after: Seconds after which a retry may succeed, if the service says so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        field: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.field = field
        self.code = code
        self.retry_after = retry_after


class InvalidRequest(ReimagenError):
    """The request is invalid. `field` names the invalid field. Retrying it unchanged cannot succeed."""


class Unauthenticated(ReimagenError):
    """The service requires an API key, and the request has no valid one."""


class PermissionDenied(ReimagenError):
    """The API key lacks the right that the request needs."""


class NotFound(ReimagenError):
    """The job, file or pair does not exist, has expired, or belongs to another caller."""


class Conflict(ReimagenError):
    """The request needs something that another request uses now, such as the same idempotency key."""


class Overloaded(ReimagenError):
    """Too many requests are waiting, or the API key has used up a limit. `retry_after` says when to retry."""


class Unavailable(ReimagenError):
    """The service is starting, stopping or down, or cannot be reached."""


class DeadlineExceeded(ReimagenError):
    """The answer did not arrive in time."""


class ServerError(ReimagenError):
    """The service failed, or its answer cannot be understood."""


class JobFailed(ReimagenError):
    """The job that was waited for failed or was cancelled."""


BAD_GATEWAY: Final = 502
"""What a load balancer answers if the connection to the service broke: the service may have handled the request."""
_BY_STATUS: Final[Mapping[int, type[ReimagenError]]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    408: DeadlineExceeded,
    409: Conflict,
    429: Overloaded,
    BAD_GATEWAY: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}
# Errors of streams and jobs have no status, only a kind.
_STATUS_BY_KIND: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "not_found_error": 404,
    "conflict_error": 409,
    "overloaded_error": 429,
    "rate_limit_error": 429,
    "unavailable_error": 503,
    "timeout_error": 504,
}
_FAULT: Final = 500


def error_of_status(status: int) -> type[ReimagenError]:
    """Return the class of the errors with an HTTP status."""
    return _BY_STATUS.get(status, ServerError if status >= _FAULT else InvalidRequest)


def error_of_kind(error: Mapping[str, Any]) -> ReimagenError:
    """Return the error that OpenAI's `error` object describes, as in streams and jobs."""
    status = _STATUS_BY_KIND.get(str(error.get("type")), _FAULT)
    message = str(error.get("message") or "the service failed without a message")
    return error_of_status(status)(message, field=error.get("param"), code=error.get("code"))
