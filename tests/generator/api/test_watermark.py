"""Watermarked images of a service, and what it tells about them without their metadata.

An image server draws, so that the images are large enough for a mark.
"""

import base64
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from reimagen_common.access.key_file import add_key
from reimagen_common.access.keys import make_key
from reimagen_common.access.rights import Right
from reimagen_generator.backends.image_server import ImageServerBackend
from reimagen_generator.backends.openai_images import Upstream
from reimagen_generator.server import GeneratorServer
from reimagen_generator.settings import Settings
from tests import image_server
from tests.access import header
from tests.generator.watermark.test_watermark import scene

SIDE = 256
BODY = {"prompt": "a red panda", "size": f"{SIDE}x{SIDE}", "retrieval": {"k": 0}}


def file_of(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Drawing:
    """A running service whose model draws the images that a test wants."""

    def __init__(self, url: str, upstream: image_server.Server) -> None:
        self.url = url
        self._upstream = upstream

    def draw(self, pixels: np.ndarray, key: str | None = None, **body: Any) -> bytes:
        """Return the file that the service makes of an image."""
        self._upstream.answers.append(image_server.answer(200, image_server.images(file_of(pixels))))
        response = httpx.post(
            f"{self.url}/v1/images/generations", json=BODY | body, headers=header(key) if key else None, timeout=60
        )
        assert response.status_code == 200, response.text
        return base64.b64decode(response.json()["data"][0]["b64_json"])

    def verify(self, file: bytes, key: str | None = None) -> dict[str, Any]:
        response = httpx.post(
            f"{self.url}/v1/verify", files={"image": file}, headers=header(key) if key else None, timeout=60
        )
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


@contextlib.contextmanager
def drawing(**options: Any) -> Iterator[Drawing]:
    settings = Settings(retriever="127.0.0.1:1", grpc="127.0.0.1:0", http="127.0.0.1:0", stop_seconds=0, **options)
    with image_server.serving() as server:
        upstream = Upstream(f"http://127.0.0.1:{server.server_port}/v1", concurrency=1)
        service = GeneratorServer(ImageServerBackend(upstream, name="drawer", sizes=(SIDE,), maximum_k=4), settings)
        service.start()
        try:
            yield Drawing(f"http://127.0.0.1:{service.http_port}", server)
        finally:
            service.stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drawing]:
    with drawing(state=tmp_path_factory.mktemp("state"), image_log=100) as running:
        yield running


def pixels_of(file: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_each_format_has_a_mark_that_outlives_the_metadata(service: Drawing, output_format: str) -> None:
    file = service.draw(scene(SIDE, 1), output_format=output_format)
    mark = service.verify(file)["watermark"]
    assert len(mark["id"]) == 8
    assert mark["score"] > 7
    assert service.verify(file_of(pixels_of(file)))["watermark"]["id"] == mark["id"]


def test_the_same_request_gives_the_same_bytes_and_another_prompt_another_id(service: Drawing) -> None:
    files = [service.draw(scene(SIDE, 1), prompt=prompt) for prompt in ("a fox", "a fox", "a kea")]
    assert files[0] == files[1]
    assert service.verify(files[0])["watermark"]["id"] != service.verify(files[2])["watermark"]["id"]


def test_the_manifest_states_the_id_that_is_in_the_pixels(tmp_path: Path) -> None:
    with drawing(state=tmp_path, signing=True) as service:
        answer = service.verify(service.draw(scene(SIDE, 1)))
    mark = {"algorithm": "reimagen.watermark.1", "value": answer["watermark"]["id"]}
    assert answer["soft_bindings"] == [mark]


def test_a_setting_turns_the_mark_off(tmp_path: Path) -> None:
    with drawing(state=tmp_path, watermark=False) as service:
        file = service.draw(scene(SIDE, 1))
        assert np.array_equal(pixels_of(file), scene(SIDE, 1))
        assert service.verify(file)["watermark"] is None


@pytest.mark.parametrize("damage", ["half", "huge", "header"])
def test_damaged_and_hostile_images_are_answered(service: Drawing, damage: str) -> None:
    file = service.draw(scene(SIDE, 2))
    match damage:
        case "half":
            file = file[: len(file) // 2]
        case "huge":
            buffer = io.BytesIO()
            Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
            file = buffer.getvalue()
        case "header":
            file = file[:8] + bytes(100)
    assert service.verify(file)["watermark"] is None


def test_an_image_without_metadata_is_found_by_its_watermark(service: Drawing) -> None:
    drawn = service.draw(scene(SIDE, 3), prompt="a kea on a rock")
    with Image.open(io.BytesIO(drawn)) as image:
        part = image.crop((20, 20, 236, 236)).resize((120, 120))
    answer = service.verify(file_of(np.asarray(part)))
    assert (answer["found_by"], answer["signature"]["status"]) == ("watermark", "absent")
    generation = answer["generation"]
    assert generation["request"] == BODY | {"prompt": "a kea on a rock", "model": "drawer"}
    assert (generation["prompt"], generation["model"]) == ("a kea on a rock", "drawer")
    assert generation["created"] > 1_700_000_000


def test_an_image_whose_mark_is_lost_is_found_by_its_fingerprint(tmp_path: Path) -> None:
    with drawing(state=tmp_path, watermark=False, image_log=100) as service:
        drawn = [service.draw(scene(SIDE, seed), prompt=f"prompt {seed}") for seed in range(4)]
        smaller = Image.fromarray(pixels_of(drawn[2])).resize((100, 100))
        answer = service.verify(file_of(np.asarray(smaller)))
        assert (answer["found_by"], answer["generation"]["prompt"]) == ("fingerprint", "prompt 2")
        assert service.verify(file_of(scene(SIDE, 9)))["found_by"] is None
    with drawing(state=tmp_path, image_log=0) as service:
        assert service.verify(file_of(np.asarray(smaller)))["generation"] is None


def test_a_key_finds_only_what_it_drew(tmp_path: Path) -> None:
    names = {}
    for name in ("one", "two"):
        names[name], stored = make_key(name, frozenset({Right.GENERATE, Right.READ}))
        add_key(tmp_path / "keys.json", stored)
    with drawing(state=tmp_path / "state", image_log=100, keys=tmp_path / "keys.json") as service:
        stripped = file_of(pixels_of(service.draw(scene(SIDE, 4), names["one"])))
        assert service.verify(stripped, names["one"])["generation"]["prompt"] == "a red panda"
        other = service.verify(stripped, names["two"])
        assert (other["generation"], other["found_by"]) == (None, None)
        assert other["watermark"]["id"]
