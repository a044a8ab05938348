"""Draw images with a server that speaks OpenAI's `images/edits` and `images/generations`."""

import asyncio
import base64
import binascii
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Final

import httpx
import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, SecretStr, ValidationError

from reimagen_common.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    ReimagenError,
    Unavailable,
)
from reimagen_common.images import ImageError, read_image
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.settings import REFERENCE_TEMPLATE

_RETRIED: Final = frozenset({500, 502, 503})
# A PNG of noise is slightly larger than its pixels. The rest is JSON.
_PIXEL_BYTES: Final = 4
_SPARE_BYTES: Final = 1024 * 1024
_ERROR_BYTES: Final = 64 * 1024
_ERROR_CHARACTERS: Final = 300
_LONGEST_PAUSE: Final = 3600.0


@dataclass(frozen=True)
class Upstream:
    """Address of an image server, and how to call it."""

    url: str
    """Base URL, such as `http://127.0.0.1:8091/v1`."""
    model: str | None = None
    """Name of the model. None: the server has only one."""
    api_key: SecretStr | None = None
    """API key, which is sent as a bearer token. None: the server requires none."""
    concurrency: int = 4
    """Maximum number of requests at the same time."""
    reference_template: str = REFERENCE_TEMPLATE
    """Line that is appended to the prompt for each reference image, numbered from 1."""
    response_format: bool = True
    """Whether to send `response_format`. OpenAI's GPT image models refuse it."""
    backoff: float = 0.5
    """Seconds before the only retry of a request that the server failed to answer."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InvalidArgument: A value is invalid. The error names its field.
        """
        try:
            address = httpx.URL(self.url)
            valid = address.scheme in ("http", "https") and bool(address.host)
        except httpx.InvalidURL:
            valid = False
        if not valid:
            raise InvalidArgument("must be an address such as http://127.0.0.1:8091/v1", field="url")
        if self.concurrency < 1:
            raise InvalidArgument(f"must be at least 1, got {self.concurrency}", field="concurrency")
        try:
            fields = {name for _, name, _, _ in Formatter().parse(self.reference_template) if name is not None}
            if fields == {"number", "caption"}:
                self.reference_template.format(number=1, caption="a")
        except ValueError:
            fields = set()
        if fields != {"number", "caption"}:
            raise InvalidArgument(
                "must contain {number} and {caption}, and no other field in braces", field="reference_template"
            )


@dataclass(frozen=True)
class Reference:
    """A reference image and its caption."""

    image: bytes
    """The image file."""
    media_type: str
    """Media type of the file, such as `image/png`."""
    caption: str
    """Text that says what the image shows."""


class _Item(BaseModel):
    b64_json: str | None = None


class _Answer(BaseModel):
    data: list[_Item]


class OpenAIImages:
    """A client of an image server.

    Its connections live on the event loop of its own thread, so that a cancellation closes them at once.
    """

    def __init__(self, upstream: Upstream) -> None:
        """Start the thread. No connection is opened before the first request."""
        self._upstream = upstream
        self._slots = threading.BoundedSemaphore(upstream.concurrency)
        headers = {"accept-encoding": "identity"}
        if upstream.api_key is not None:
            headers["authorization"] = f"Bearer {upstream.api_key.get_secret_value()}"
        # The deadline of each request replaces the time-outs of the client. A redirect could take the key elsewhere.
        self._client = httpx.AsyncClient(
            base_url=upstream.url,
            headers=headers,
            timeout=None,  # noqa: S113
            follow_redirects=False,
            trust_env=False,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-images", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close all connections and stop the thread."""
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def draw(
        self, handle: RequestHandle, prompt: str, references: Sequence[Reference], *, n: int, size: int
    ) -> UInt8[np.ndarray, "n size size 3"]:
        """Return n square images of a prompt.

        Raises:
            InvalidArgument: The server refuses the request.
            Overloaded: Too many requests are running here or on the server.
            Unavailable: The server does not answer, or fails twice.
            DeadlineExceeded: The deadline has passed.
            Cancelled: The request was cancelled.
            ReimagenError: The server's answer is wrong, or it does not accept the key.
        """
        if not self._slots.acquire(blocking=False):
            raise Overloaded(
                f"{self._upstream.concurrency} requests are being drawn by the image server; try again later",
                retry_after=1,
            )
        tasks: list[asyncio.Task[Any]] = []

        def start() -> None:
            tasks.append(self._loop.create_task(self._draw(handle, prompt, references, n, size)))
            tasks[0].add_done_callback(lambda done: self._finish(handle, done))

        self._loop.call_soon_threadsafe(start)
        try:
            event = handle.receive()
        finally:
            # The loop keeps the order of calls, so the task exists by then.
            self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
        if not isinstance(event, ImagesEvent):
            raise TypeError(f"expected the images, got {event!r}")
        return event.images

    def _finish(self, handle: RequestHandle, done: asyncio.Task[Any]) -> None:
        # Only now is the connection closed: a cancelled task ends later than its caller.
        self._slots.release()
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            handle.post(ImagesEvent(done.result()))
        else:
            handle.post(error if isinstance(error, Exception) else ReimagenError("drawing was interrupted"))

    async def _draw(
        self, handle: RequestHandle, prompt: str, references: Sequence[Reference], n: int, size: int
    ) -> UInt8[np.ndarray, "n size size 3"]:
        try:
            async with asyncio.timeout(handle.remaining()):
                body = await self._send(prompt, references, n, size)
        except TimeoutError as error:
            raise DeadlineExceeded("the image server did not answer before the deadline") from error
        # Decoding on the loop would hold up the other requests.
        return await asyncio.to_thread(_read, body, n, size)

    async def _send(self, prompt: str, references: Sequence[Reference], n: int, size: int) -> bytes:
        most = n * (size * size * _PIXEL_BYTES * 4 // 3 + _SPARE_BYTES)
        fields: dict[str, Any] = {"prompt": self._prompt(prompt, references), "n": n, "size": f"{size}x{size}"}
        if self._upstream.model is not None:
            fields["model"] = self._upstream.model
        if self._upstream.response_format:
            fields["response_format"] = "b64_json"
        for last in (False, True):
            try:
                request = self._request(fields, references)
                response = await self._client.send(request, stream=True)
                try:
                    if last or response.status_code not in _RETRIED:
                        return await self._body(response, most)
                finally:
                    await response.aclose()
            except httpx.ConnectError as error:
                if last:
                    raise Unavailable("the image server cannot be reached", retry_after=5) from error
            except httpx.HTTPError as error:
                # Not retried: the server may have drawn the images, and charged for them.
                raise Unavailable("the image server broke off its answer", retry_after=5) from error
            await asyncio.sleep(self._upstream.backoff)
        raise AssertionError("the last attempt returns or raises")

    def _prompt(self, prompt: str, references: Sequence[Reference]) -> str:
        shown = [
            self._upstream.reference_template.format(number=number, caption=reference.caption)
            for number, reference in enumerate(references, start=1)
        ]
        return "\n".join([prompt, *shown])

    def _request(self, fields: dict[str, Any], references: Sequence[Reference]) -> httpx.Request:
        if not references:
            return self._client.build_request("POST", "images/generations", json=fields)
        files = [
            ("image[]", (f"{number}.{reference.media_type.partition('/')[2]}", reference.image, reference.media_type))
            for number, reference in enumerate(references, start=1)
        ]
        form = {name: str(value) for name, value in fields.items()}
        return self._client.build_request("POST", "images/edits", data=form, files=files)

    async def _body(self, response: httpx.Response, most: int) -> bytes:
        status = response.status_code
        if status == 200:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ReimagenError("the image server compressed its answer, although it was asked not to")
            body = await _limited(response, most)
            if len(body) > most:
                raise ReimagenError(f"the image server's answer is larger than {most:,} bytes")
            return body
        if response.is_redirect:
            raise ReimagenError("the image server redirects; set its address to where it redirects to")
        if status == 429:
            raise Overloaded("the image server is overloaded; try again later", retry_after=_pause(response))
        if status in (401, 403):
            raise ReimagenError("the image server does not accept the service's API key")
        if status == 404:
            raise ReimagenError("the image server has no such route or model; check its address and model")
        if 400 <= status < 500:
            reason = self._reason(await _limited(response, _ERROR_BYTES))
            raise InvalidArgument(f"the image server refuses the request: {reason}")
        raise Unavailable(f"the image server fails with status {status}", retry_after=_pause(response))

    def _reason(self, body: bytes) -> str:
        """Return the message of the server's error without the key, which some servers repeat."""
        text = body.decode("utf-8", "replace")
        if self._upstream.api_key is not None:
            text = text.replace(self._upstream.api_key.get_secret_value(), "***")
        return " ".join(text.split())[:_ERROR_CHARACTERS] or "it gives no reason"


async def _limited(response: httpx.Response, most: int) -> bytes:
    """Return the body, or its beginning of a little more than `most` bytes."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            break
    return bytes(body)


def _pause(response: httpx.Response) -> float:
    """Return the server's Retry-After in seconds, or 5 if it is missing or a date."""
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_PAUSE) if text.isascii() and text.isdigit() else 5.0


def _read(body: bytes, n: int, size: int) -> UInt8[np.ndarray, "n size size 3"]:
    try:
        items = _Answer.model_validate_json(body).data
    except ValidationError as error:
        raise ReimagenError("the image server's answer is not the JSON of images") from error
    if len(items) != n:
        raise ReimagenError(f"the image server answered with {len(items)} images instead of {n}")
    return np.stack([_pixels(item, size) for item in items])


def _pixels(item: _Item, size: int) -> UInt8[np.ndarray, "size size 3"]:
    if item.b64_json is None:
        raise ReimagenError("the image server answered without b64_json; addresses of images are not fetched")
    try:
        data = base64.b64decode(item.b64_json, validate=True)
        pixels = np.asarray(read_image(data, None).rgb)
    except (binascii.Error, ImageError) as error:
        raise ReimagenError("the image server answered with a file that is not an image") from error
    if pixels.shape != (size, size, 3):
        height, width = pixels.shape[:2]
        raise ReimagenError(f"the image server drew {width}x{height} pixels instead of {size}x{size}")
    return pixels
