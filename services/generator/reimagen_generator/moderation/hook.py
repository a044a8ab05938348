"""The hook: an HTTP endpoint or a Python function that decides whether a prompt or a pair is allowed."""

import base64
import contextvars
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Final

import httpx
from pydantic import BaseModel, Field, StrictBool, ValidationError

from reimagen_common import tracing
from reimagen_common.errors import InvalidArgument, Unavailable, first_fault

Question = Mapping[str, Any]
"""`kind`, and `prompt` with or without `negative_prompt`, or `caption`, `source`, `license` and `image` of a pair."""

# Of questions that are asked at the same time. A request has at most 16 neighbors.
_THREADS: Final = 16
_RETRY_SECONDS: Final = 5.0
_ANSWER_BYTES: Final = 64 * 1024
_REASON_CHARACTERS: Final = 500


class Verdict(BaseModel):
    """The hook's answer."""

    allowed: StrictBool = Field(description="Whether the prompt or pair is allowed.")
    reason: str = Field("", max_length=_REASON_CHARACTERS, description="Why not, in words for the client.")


class Hook:
    """A hook with a time-out. A question that it does not answer in time fails."""

    def __init__(self, address: str, *, seconds: float, api_key: str | None = None) -> None:
        """Create the hook. A function is imported; an endpoint is not called.

        Args:
            address: The endpoint's URL, or `module:function`.
            seconds: Maximum time of an answer.
            api_key: The bearer token for the endpoint.

        Raises:
            InvalidArgument: The URL is invalid, or there is no such function.
        """
        self.address = address
        self._seconds = seconds
        self._ask = _endpoint(address, seconds, api_key) if "://" in address else _function(address)
        # httpx bounds single reads, not the whole answer, and nothing bounds a function: the caller waits for a future.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="moderation")

    def ask(self, questions: Sequence[Question], *, remaining: float) -> list[Verdict]:
        """Return the verdicts on questions, all of which are asked at the same time.

        Args:
            questions: The questions.
            remaining: Seconds until the deadline of the request, which shorten the time-out.

        Raises:
            Unavailable: The hook fails, answers with something else than a verdict, or does not answer in time.
        """
        timeout = min(self._seconds, remaining)
        with tracing.calling("moderation"):
            asked = [
                self._threads.submit(contextvars.copy_context().run, self._ask, question) for question in questions
            ]
            try:
                wait(asked, timeout)
                return [Verdict.model_validate(each.result(timeout=0)) for each in asked]
            except Exception as error:
                raise Unavailable(
                    f"the operator's moderation hook cannot be asked now: {_cause(error, timeout)}; try again later",
                    retry_after=_RETRY_SECONDS,
                ) from error
            finally:
                for each in asked:
                    each.cancel()


def _cause(error: Exception, timeout: float) -> str:
    """Return what went wrong, without addresses and values of the operator."""
    match error:
        case TimeoutError() | httpx.TimeoutException():
            return f"it did not answer within {timeout:g} seconds"
        case httpx.HTTPStatusError():
            return f"it answered with status {error.response.status_code}"
        case httpx.HTTPError():
            return "it cannot be reached"
        case ValidationError():
            return f"its answer is invalid: {first_fault(error)}"
        case ValueError():
            return f"its answer is invalid: {error}"
    return f"it failed with {type(error).__name__}"


def _endpoint(url: str, seconds: float, api_key: str | None) -> Callable[[Question], object]:
    try:
        address = httpx.URL(url)
        valid = address.scheme in ("http", "https") and bool(address.host)
    except httpx.InvalidURL:
        valid = False
    if not valid:
        raise InvalidArgument(
            f"must be a URL that begins with http:// or https://, or module:function; got {url!r}",
            field="moderation_hook",
        )
    # A redirect could take the key, the prompts and the images elsewhere.
    client = httpx.Client(
        headers={"authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=seconds,
        follow_redirects=False,
        trust_env=False,
    )

    def ask(question: Question) -> object:
        body = dict(question)
        if "image" in body:
            body["image"] = base64.b64encode(body["image"]).decode("ascii")
        with client.stream("POST", url, json=body) as response:
            if not response.is_success:
                raise httpx.HTTPStatusError("no verdict", request=response.request, response=response)
            content = b""
            for part in response.iter_bytes():
                content += part
                if len(content) > _ANSWER_BYTES:
                    raise ValueError(f"it is longer than {_ANSWER_BYTES:,} bytes")
            return json.loads(content)

    return ask


def _function(name: str) -> Callable[[Question], object]:
    module, colon, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function) if colon else None
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgument(f"cannot import {name}: {error}", field="moderation_hook") from error
    if not callable(found):
        raise InvalidArgument(f"must be a URL or module:function, got {name!r}", field="moderation_hook")
    hook: Callable[[Question], object] = found
    return hook
