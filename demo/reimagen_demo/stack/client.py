"""A client of the generator's REST API."""

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
    def label(self) -> str:
        """The caption with the license, and the source, in two lines."""
        return f"{self.caption} ({self.license})\n{self.source.removeprefix('npm:@iconify-json/')}"


@dataclass(frozen=True)
class Answer:
    """An image and the neighbors that it was grounded on."""

    file: bytes
    neighbors: tuple[Found, ...]
    seconds: float
    """Seconds from the request to the answer."""

    @property
    def image(self) -> Image.Image:
        """The image, RGB."""
        return _open(self.file)


def draw(url: str, prompt: str, size: int, seed: int, k: int | None = None) -> Answer:
    """Draw one image.

    Args:
        url: base URL of the generator.
        prompt: text of the image to draw.
        size: side of the image in pixels.
        seed: the same seed draws the same image.
        k: number of neighbors; None for the cascade's default, 0 for none.

    Raises:
        RuntimeError: the generator rejected the request; the message contains its answer.
        httpx.HTTPError: the generator cannot be reached.
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
    with Image.open(io.BytesIO(file)) as image:
        return image.convert("RGB")
