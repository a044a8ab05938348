"""Asking the generator for images over REST, as any client does."""

import base64
import io
import time
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

DRAW_SECONDS = 300.0


@dataclass(frozen=True)
class Found:
    """A neighbor that an image was grounded on."""

    image: Image.Image
    caption: str
    source: str
    license: str

    @property
    def told(self) -> str:
        """What it shows and where it is from, in two lines."""
        return f"{self.caption} ({self.license})\n{self.source.removeprefix('npm:@iconify-json/')}"


@dataclass(frozen=True)
class Answer:
    """An image and what it was grounded on."""

    file: bytes
    neighbors: tuple[Found, ...]
    seconds: float
    """How long it took from the request to the answer."""

    @property
    def image(self) -> Image.Image:
        """The image, RGB."""
        return _open(self.file)


def draw(url: str, prompt: str, size: int, seed: int, k: int | None = None) -> Answer:
    """One image.

    Args:
        url: Of the generator.
        prompt: What to draw.
        size: Side of the image in pixels.
        seed: The same draws the same image.
        k: How many neighbors; None for the cascade's default, 0 for none.

    Raises:
        RuntimeError: the generator refused; the message says why.
        httpx.HTTPError: it can't be reached.
    """
    body: dict[str, Any] = {"prompt": prompt, "size": f"{size}x{size}", "seed": seed}
    if k is not None:
        body["retrieval"] = {"k": k}
    start = time.monotonic()
    response = httpx.post(f"{url}/v1/images/generations", json=body, timeout=DRAW_SECONDS)
    if not response.is_success:
        raise RuntimeError(f"the generator answered {response.status_code} to {body}: {response.text}")
    answer = response.json()
    return Answer(
        file=base64.b64decode(answer["data"][0]["b64_json"]),
        neighbors=tuple(
            Found(_open(base64.b64decode(found["b64_json"])), found["caption"], found["source"], found["license"])
            for found in answer["neighbors"]
        ),
        seconds=time.monotonic() - start,
    )


def _open(file: bytes) -> Image.Image:
    with Image.open(io.BytesIO(file)) as picture:
        return picture.convert("RGB")
