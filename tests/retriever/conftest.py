"""Images, sources and encoders, made for tests."""

import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from tests.waiting import LoggedProcess

MakeImage = Callable[..., bytes]
MakeFolder = Callable[[Mapping[str, str]], Path]
MakeTar = Callable[..., Path]
MakeBase = Callable[..., Path]
MakeEncoder = Callable[[Mapping[str, Sequence[float]]], Path]


@pytest.fixture(scope="session")
def make_image() -> MakeImage:
    """Return a function that draws an image file: `make_image("red", size=(8, 6), kind="JPEG")`."""

    def make(color: str = "red", *, size: tuple[int, int] = (8, 6), kind: str = "PNG") -> bytes:
        file = io.BytesIO()
        Image.new("RGB", size, color).save(file, kind)
        return file.getvalue()

    return make


@pytest.fixture
def folder(tmp_path: Path, make_image: MakeImage) -> MakeFolder:
    """Return a function that writes a source folder: `folder({"a": "a red panda"})` gives a.png and a.txt."""

    def make(captions: Mapping[str, str]) -> Path:
        root = tmp_path / "source"
        for name, caption in captions.items():
            path = root / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            # A unique color: pairs with the same image are near-duplicates.
            path.write_bytes(make_image(f"#{hashlib.sha256(name.encode()).hexdigest()[:6]}"))
            path.with_suffix(".txt").write_text(caption)
        return root

    return make


@pytest.fixture
def tar(tmp_path: Path) -> MakeTar:
    """Return a function that writes a tar file: `tar({"0.png": b"...", "0.txt": b"..."})`."""

    def make(members: Mapping[str, bytes], name: str = "00000.tar") -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w") as file:
            for member_name, data in members.items():
                member = tarfile.TarInfo(member_name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
        return path

    return make


@pytest.fixture
def base(tmp_path: Path, folder: MakeFolder) -> MakeBase:
    """Return a function that builds or replaces a knowledge base: `base({"a": "a red panda"})`."""

    def make(captions: Mapping[str, str], name: str = "kb") -> Path:
        source = folder(captions)
        build(open_source(source), tmp_path / name)
        for path in sorted(source.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def sentence_encoder(tmp_path_factory: pytest.TempPathFactory) -> MakeEncoder:
    """Return a function that writes an encoder by the mean of word vectors: `sentence_encoder({"dog": [1, 0]})`."""
    return lambda words: _sentence_encoder(tmp_path_factory.mktemp("encoders") / "sentences", words)


@pytest.fixture(scope="session")
def clip_encoder(tmp_path_factory: pytest.TempPathFactory) -> MakeEncoder:
    """Return a function that writes a CLIP of mean colors: `clip_encoder({"red": [1, -1, -1]})`."""
    return lambda words: _clip_encoder(tmp_path_factory.mktemp("encoders") / "clip", words)


# There is no `onnx` here: its protobuf is written by hand, by the numbers of the fields in onnx.proto.
_FLOAT, _INT64 = 1, 7
_OPSET = 17


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, array: NDArray[Any]) -> bytes:
    kind = _FLOAT if array.dtype == np.float32 else _INT64
    dimensions = b"".join(_field(1, size) for size in array.shape)
    return dimensions + _field(2, kind) + _field(8, name) + _field(9, array.tobytes())


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    sizes = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, sizes)))


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | float | Sequence[int]) -> bytes:
    encoded = b"".join(_field(1, name) for name in inputs) + b"".join(_field(2, name) for name in outputs)
    for name, given in attributes.items():
        if isinstance(given, float):
            what = _varint(2 << 3 | 5) + struct.pack("<f", given) + _field(20, 1)
        elif isinstance(given, int):
            what = _field(3, given) + _field(20, 2)
        else:
            what = b"".join(_field(8, number) for number in given) + _field(20, 7)
        encoded += _field(5, _field(1, name) + what)
    return encoded + _field(4, kind)


def _model(
    nodes: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes], weights: Sequence[bytes]
) -> bytes:
    graph = b"".join(_field(1, each) for each in nodes) + _field(2, "graph")
    graph += b"".join(_field(5, each) for each in weights)
    graph += b"".join(_field(11, each) for each in inputs) + b"".join(_field(12, each) for each in outputs)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, _OPSET))


def _word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """Write a tokenizer with one token per word, in this order from 2; 0 is padding, 1 any other word."""
    numbers = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _sentence_encoder(folder: Path, words: Mapping[str, Sequence[float]]) -> Path:
    """Write an encoder with the mean of word vectors; the vectors of padding are far from 0."""
    folder.mkdir(parents=True)
    dimension = len(next(iter(words.values())))
    table = np.array([[9.0] * dimension, [0.01] * dimension, *words.values()], np.float32)
    names = ("input_ids", "attention_mask")
    (folder / "model.onnx").write_bytes(
        _model(
            [_node("Gather", ["table", "input_ids"], ["last_hidden_state"], axis=0)],
            [_value(name, _INT64, ["batch", "tokens"]) for name in names],
            [_value("last_hidden_state", _FLOAT, ["batch", "tokens", dimension])],
            [_tensor("table", table)],
        )
    )
    _word_tokenizer(list(words)).save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


def _clip_encoder(folder: Path, words: Mapping[str, Sequence[float]], side: int = 4) -> Path:
    """Write a CLIP: a text's vector is the sum of its word vectors, an image's its mean color from -1 to 1."""
    (folder / "onnx").mkdir(parents=True)
    table = np.array([[0.0] * 3, [0.01] * 3, *words.values()], np.float32)
    (folder / "onnx" / "text_model.onnx").write_bytes(
        _model(
            [
                _node("Gather", ["table", "input_ids"], ["tokens"], axis=0),
                _node("ReduceSum", ["tokens", "axes"], ["text_embeds"], keepdims=0),
            ],
            [_value("input_ids", _INT64, ["batch", "tokens"])],
            [_value("text_embeds", _FLOAT, ["batch", 3])],
            [_tensor("table", table), _tensor("axes", np.array([1]))],
        )
    )
    (folder / "onnx" / "vision_model.onnx").write_bytes(
        _model(
            [_node("ReduceMean", ["pixel_values"], ["image_embeds"], axes=[2, 3], keepdims=0)],
            [_value("pixel_values", _FLOAT, ["batch", 3, side, side])],
            [_value("image_embeds", _FLOAT, ["batch", 3])],
            [],
        )
    )
    _word_tokenizer(list(words)).save(str(folder / "tokenizer.json"))
    settings = {
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@dataclass(frozen=True)
class Served:
    """A running `reimagen-retriever serve`, and a client of it."""

    logged: LoggedProcess
    address: str
    stub: RetrievalStub

    @property
    def process(self) -> "subprocess.Popen[str]":
        """The process."""
        return self.logged.popen


Serve = Callable[..., AbstractContextManager[Served]]


@pytest.fixture
def serve() -> Serve:
    """Return a function that serves a knowledge base in its own process, by a command with a prefix `before`."""

    @contextmanager
    def serving(folder: Path, before: Sequence[str] = ()) -> Iterator[Served]:
        program = Path(sys.executable).with_name("reimagen-retriever")
        with LoggedProcess([*before, program, "serve", folder, "--grpc", "127.0.0.1:0"]) as process:
            ready = process.wait_for_line(r"msg=ready .*grpc=(\S+)")
            with grpc.insecure_channel(ready[1]) as channel:
                yield Served(process, ready[1], RetrievalStub(channel))

    return serving
