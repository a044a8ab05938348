"""Weights from an object store."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from reimagen_generator.weights import fetch as module
from reimagen_generator.weights.fetch import SUMS_FILE, fetch, write_sums

CHUNK = 1000
WEIGHTS = bytes(range(256)) * 20


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    (folder / "text_encoder").mkdir(parents=True)
    (folder / "cascade.json").write_text("{}")
    (folder / "text_encoder" / "config.json").write_text("{}")
    (folder / "stage-16.safetensors").write_bytes(WEIGHTS)
    write_sums(folder)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Store(SimpleHTTPRequestHandler):
    """A store over HTTP with byte ranges that breaks off answers."""

    def __init__(self, asked: list[str], left: list[int], *arguments: Any, **named: Any) -> None:
        self.asked, self.left = asked, left
        super().__init__(*arguments, **named)

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        given = self.headers.get("Range")
        if given is None:
            super().do_GET()
            return
        self.asked.append(given)
        first, last = map(int, given.removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.left[0] -= 1
        self.wfile.write(part if self.left[0] >= 0 else part[: len(part) // 2])

    def log_message(self, *_: object) -> None:
        pass


class Served:
    def __init__(self, url: str, asked: list[str], left: list[int]) -> None:
        self.url, self.asked, self._left = url, asked, left

    def answer(self, number: int) -> None:
        """Break off every answer after that many."""
        self._left[0] = number


@pytest.fixture
def http(folder: Path) -> Iterator[Served]:
    asked: list[str] = []
    left = [10_000]
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Store, asked, left, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Served(f"http://127.0.0.1:{server.server_port}", asked, left)
    server.shutdown()
    server.server_close()
    thread.join()


def test_files_come_once_and_are_those_of_the_store(folder: Path, cache: Path) -> None:
    store = fsspec.filesystem("memory")
    store.put(f"{folder}/", "/bucket/weights", recursive=True)
    fetched = fetch("memory://bucket/weights", cache)
    assert (fetched / "stage-16.safetensors").read_bytes() == WEIGHTS
    assert (fetched / "text_encoder" / "config.json").read_text() == "{}"
    store.rm("/bucket/weights/stage-16.safetensors")
    assert fetch("memory://bucket/weights", cache) == fetched


def test_other_weights_get_another_folder(folder: Path, cache: Path) -> None:
    before = fetch(f"file://{folder}", cache)
    (folder / "cascade.json").write_text('{"name": "other"}')
    write_sums(folder)
    after = fetch(f"file://{folder}", cache)
    assert before != after
    assert (before / "cascade.json").read_text() == "{}"


def test_a_fetch_that_was_broken_off_goes_on_where_it_ended(http: Served, cache: Path) -> None:
    http.answer(4)
    with pytest.raises(ValueError, match=r"weights: cannot read .*stage-16.safetensors, tried 5 times"):
        fetch(http.url, cache)
    http.asked.clear()
    http.answer(10_000)
    fetched = fetch(http.url, cache)
    assert (fetched / "stage-16.safetensors").read_bytes() == WEIGHTS
    first = int(http.asked[0].removeprefix("bytes=").split("-")[0])
    assert 0 < first < len(WEIGHTS)
    assert first % CHUNK == 0


def test_a_file_with_another_content_is_refused_and_fetched_again(folder: Path, cache: Path) -> None:
    (folder / "stage-16.safetensors").write_bytes(WEIGHTS[::-1])
    with pytest.raises(ValueError, match=rf"stage-16.safetensors has the SHA-256 .*, but {SUMS_FILE} says"):
        fetch(f"file://{folder}", cache)
    (folder / "stage-16.safetensors").write_bytes(WEIGHTS)
    assert (fetch(f"file://{folder}", cache) / "stage-16.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        (None, r"there is no SHA256SUMS in .*; write it with reimagen-generator checksums"),
        ("abc  cascade.json\n", "line 1 of .* must be a SHA-256"),
        (f"{'0' * 64}  ../cascade.json\n", "line 1 of .* must be a SHA-256"),
        (f"{'0' * 64}  stage-16.safetensors\n", "does not name cascade.json"),
        (f"{'0' * 64}  cascade.json\n{'0' * 64}  gone\n", "cascade.json has the SHA-256"),
    ],
)
def test_bad_checksums_are_refused(folder: Path, cache: Path, sums: str | None, message: str) -> None:
    if sums is None:
        (folder / SUMS_FILE).unlink()
    else:
        (folder / SUMS_FILE).write_text(sums)
    with pytest.raises(ValueError, match=message):
        fetch(f"file://{folder}", cache)


@pytest.mark.parametrize("address", ["nonsense://bucket/weights", "memory://nothing/here"])
def test_an_address_that_cannot_be_read_is_named(address: str, cache: Path) -> None:
    with pytest.raises(ValueError, match=f"weights: .*{address}"):
        fetch(address, cache)


def test_checksums_are_those_of_sha256sum(folder: Path) -> None:
    lines = (folder / SUMS_FILE).read_text().splitlines()
    # sha256sum of "{}"
    assert "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a  cascade.json" in lines
    assert [line.split("  ")[1] for line in lines] == [
        "cascade.json",
        "stage-16.safetensors",
        "text_encoder/config.json",
    ]
