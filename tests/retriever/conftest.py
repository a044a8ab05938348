"""Pictures and sources, made for tests."""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from reimagen_retriever.build import build
from reimagen_retriever.knowledge_base.sources import open_source

MakePicture = Callable[..., bytes]
MakeFolder = Callable[[Mapping[str, str]], Path]
MakeTar = Callable[..., Path]
MakeBase = Callable[..., Path]


@pytest.fixture(scope="session")
def picture() -> MakePicture:
    """Draws a picture's file: `picture("red", size=(8, 6), kind="JPEG")`."""

    def make(color: str = "red", *, size: tuple[int, int] = (8, 6), kind: str = "PNG") -> bytes:
        file = io.BytesIO()
        Image.new("RGB", size, color).save(file, kind)
        return file.getvalue()

    return make


@pytest.fixture
def folder(tmp_path: Path, picture: MakePicture) -> MakeFolder:
    """Writes a source folder from captions by name: `folder({"a": "a red panda"})` gives a.png and a.txt."""

    def make(captions: Mapping[str, str]) -> Path:
        root = tmp_path / "source"
        for name, caption in captions.items():
            path = root / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture())
            path.with_suffix(".txt").write_text(caption)
        return root

    return make


@pytest.fixture
def tar(tmp_path: Path) -> MakeTar:
    """Writes a tar file from its members: `tar({"0.png": b"...", "0.txt": b"..."})`."""

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
    """Builds a knowledge base from captions by id, or replaces it: `base({"a": "a red panda"})`."""

    def make(captions: Mapping[str, str], name: str = "kb") -> Path:
        source = folder(captions)
        build(open_source(source), tmp_path / name)
        for path in sorted(source.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        return tmp_path / name

    return make
