"""Bases served from an object store: over HTTP with byte ranges, and from fsspec's memory."""

import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import fsspec
import grpc
import pytest
from PIL import Image

from reimagen.v1 import retrieval_pb2 as pb
from reimagen_common.errors import InvalidArgument, NotFound, ReimagenError, Unavailable
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.folder_lock import Holder
from reimagen_retriever.knowledge_base.manifest import ImageStore
from reimagen_retriever.knowledge_base.mirror import mirror
from reimagen_retriever.knowledge_base.pair import SourcePair, StoredPair
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.live.writer import LiveWriter, Put
from reimagen_retriever.maintenance.snapshot import snapshot
from reimagen_retriever.maintenance.union import unite
from reimagen_retriever.maintenance.verify import verify
from reimagen_retriever.search import Search
from reimagen_retriever.service import RetrievalService
from tests.waiting import wait_until

Serve = Callable[..., AbstractContextManager[Any]]
MEGABYTE = 1024 * 1024
WORDS = ("kea", "fox", "hotel", "train", "panda", "rocket")
SECONDS = 60
Opened = Callable[..., Any]
"""The fixture `http`."""


def noise(side: int = 64) -> bytes:
    """Return an image file of about three bytes per pixel."""
    file = Path(f"/proc/self/fd/{os.memfd_create('picture')}")
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(file, "PNG")
    try:
        return file.read_bytes()
    finally:
        os.close(int(file.name))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Make a snapshot in the store's folder, of a base with added pairs."""
    write(tmp_path / "source", {word: noise() for word in WORDS[:-1]})
    build(open_source(tmp_path / "source"), tmp_path / "kb")
    with LiveWriter(tmp_path / "kb", Holder(work="test")) as writer:
        writer.apply([Put(*checked_pair(SourcePair("here", WORDS[-1], f"a {WORDS[-1]}", noise())))])
    snapshot(tmp_path / "kb", tmp_path / "bucket" / "kb")
    return tmp_path / "bucket" / "kb"


def write(source: Path, images: Mapping[str, bytes]) -> None:
    source.mkdir()
    for name, image in images.items():
        (source / f"{name}.png").write_bytes(image)
        (source / f"{name}.txt").write_text(f"a {name}")


def store_of(address: str, seconds: float = SECONDS, megabytes: int = 16) -> ImageStore:
    return ImageStore(address=address, cache_megabytes=megabytes, seconds=seconds)


@contextmanager
def mirrored(folder: Path, store: ImageStore) -> Iterator[KnowledgeBase]:
    mirror(store, folder)
    base = KnowledgeBase.open(folder)
    try:
        yield base
    finally:
        base.close()


def pairs(base: KnowledgeBase) -> dict[str, StoredPair]:
    return {pair.id: pair for document in base.index.in_order() for pair in [base.index.pair(document)]}


def in_memory(folder: Path) -> str:
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/kb", recursive=True)
    return "memory://kb"


@pytest.mark.parametrize("kind", ["http", "memory"])
def test_a_base_in_a_store_equals_the_local_base(kept: Path, http: Opened, tmp_path: Path, kind: str) -> None:
    address = f"{http().url}/kb" if kind == "http" else in_memory(kept)
    here = KnowledgeBase.open(kept)
    with mirrored(tmp_path / "local", store_of(address)) as there:
        assert there.manifest.model_copy(update={"store": None}) == here.manifest
        assert pairs(there) == pairs(here)
        for word in WORDS:
            (mine,), (theirs,) = (base.index.search(f"the {word}", 1, 0, "any") for base in (there, here))
            assert mine == theirs
            assert there.images.read(mine.pair) == here.images.read(theirs.pair)
    here.close()
    assert not list((tmp_path / "local").rglob("*.tar"))


def test_an_image_is_read_once_by_its_byte_range(kept: Path, http: Opened, tmp_path: Path) -> None:
    server = http()
    with mirrored(tmp_path / "local", store_of(f"{server.url}/kb")) as base:
        found = pairs(base)
        assert server.images() == []
        kea = found["kea"]
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(base.images.read, [kea] * 40))) == 1
        assert server.images() == [f"bytes={kea.offset}-{kea.offset + kea.length - 1}"]
    with mirrored(tmp_path / "local", store_of(f"{server.url}/kb")) as base:
        base.images.read(kea)
        base.images.read(found["fox"])
    assert len(server.images()) == 2


def test_the_images_of_an_answer_and_of_a_batch_are_fetched_concurrently(
    kept: Path, http: Opened, tmp_path: Path
) -> None:
    server = http()
    mirror(store_of(f"{server.url}/kb"), tmp_path / "local")
    serving = RetrievalService(tmp_path / "local", AnswerCache(None, 1), "entity")
    serving.open()
    server.together = threading.Barrier(2, timeout=SECONDS)
    one = serving.search(Search("kea and fox", k=2))
    server.together = threading.Barrier(3, timeout=SECONDS)
    more = serving.batch_search([Search("hotel"), Search("train and panda", k=2), Search("kea", omit_images=True)])
    here = KnowledgeBase.open(kept)
    for answer, found in zip([one, *more], [{"kea", "fox"}, {"hotel"}, {"train", "panda"}, {"kea"}], strict=True):
        assert {neighbor.pair.id for neighbor in answer.neighbors} == found
        for neighbor in answer.neighbors:
            assert neighbor.image == (b"" if found == {"kea"} else here.images.read(neighbor.pair))
    here.close()
    serving.close()


def test_an_image_with_another_digest_is_never_returned(kept: Path, http: Opened, tmp_path: Path) -> None:
    server = http()
    with mirrored(tmp_path / "local", store_of(f"{server.url}/kb")) as base:
        found = pairs(base)
        image = base.images.read(found["kea"])
        # The cached file is damaged: it is fetched again.
        base.images._cache.set(found["kea"].sha256, image[:-1] + b"!")  # type: ignore[attr-defined]
        assert base.images.read(found["kea"]) == image
        fox = found["fox"]
        (shard,) = kept.glob(f"data-*/shards/{fox.shard}")
        with shard.open("r+b") as file:
            file.seek(fox.offset + fox.length // 2)
            file.write(b"damage")
        with pytest.raises(
            DamagedError, match=rf"{server.url}/kb: the .* bytes of .*{fox.shard} at .* are not the image of fox"
        ):
            base.images.read(fox)
        shard.unlink()
        with pytest.raises(DamagedError, match=f"has no .*{fox.shard} with the image of fox"):
            base.images.read(fox)
        assert base.images.read(found["kea"]) == image


def test_cached_images_are_served_while_the_store_is_down(kept: Path, http: Opened, tmp_path: Path) -> None:
    server = http()
    mirror(store_of(f"{server.url}/kb", seconds=0.2), tmp_path / "local")
    serving = RetrievalService(tmp_path / "local", AnswerCache(None, 1), "entity")
    serving.open()
    before = serving.search(Search("kea"))
    assert serving.degraded_reasons() == []

    def is_down() -> None:
        assert serving.search(Search("kea")) == before
        with pytest.raises(Unavailable, match=rf"the image of 'fox' can't be read: {server.url}/kb does not answer"):
            serving.search(Search("fox"))
        assert serving.search(Search("fox", omit_images=True)).neighbors[0].pair.id == "fox"
        (degraded_reason,) = serving.degraded_reasons()
        assert "images that are not cached can't be read" in degraded_reason

    server.hanging = True
    is_down()
    asked, started = len(server.asked), time.monotonic()
    # Of later searches, at most one per second waits for a hanging store.
    for _ in range(10):
        is_down()
    assert len(server.asked) <= asked + 1 + time.monotonic() - started
    server.close()
    is_down()
    again = http(server.port)
    wait_until(lambda: answers(serving, "fox"))
    assert again.images()
    assert serving.degraded_reasons() == []
    serving.close()


def answers(serving: RetrievalService, query: str) -> bool:
    try:
        return serving.search(Search(query)).neighbors[0].image.startswith(b"\x89PNG")
    except Unavailable:
        return False


def test_the_cache_of_images_is_bounded(http: Opened, tmp_path: Path) -> None:
    write(tmp_path / "source", {f"{number:03d}": noise(120) for number in range(140)})
    build(open_source(tmp_path / "source"), tmp_path / "bucket" / "kb")
    server = http()
    with mirrored(tmp_path / "local", store_of(f"{server.url}/kb", megabytes=2)) as base:
        found = list(pairs(base).values())
        assert sum(pair.length for pair in found) > 5 * MEGABYTE
        for pair in found:
            base.images.read(pair)
            base.images.read(found[0])
            size = sum(file.stat().st_size for file in (tmp_path / "local" / "images").rglob("*.val"))
            assert size <= 2 * MEGABYTE + pair.length
        # The first was used repeatedly and is still cached; the second is evicted.
        assert len(server.images()) == len(found)
        base.images.read(found[1])
        assert len(server.images()) == len(found) + 1


def test_an_index_is_mirrored_once_and_a_newer_snapshot_again(kept: Path, http: Opened, tmp_path: Path) -> None:
    server, local = http(), tmp_path / "local"
    store = store_of(f"{server.url}/kb")
    mirror(store, local)
    serving = RetrievalService(local, AnswerCache(None, 1), "entity")
    serving.open()
    asked = len(server.asked)
    mirror(store, local)
    assert [path for path, _ in server.asked[asked:]] == ["/kb/manifest.json"]
    with LiveWriter(tmp_path / "kb", Holder(work="test")) as writer:
        writer.apply([Put(*checked_pair(SourcePair("here", "new", "a newt", noise())))])
    kept.rename(tmp_path / "old")
    snapshot(tmp_path / "kb", kept)
    mirror(store, local)
    assert [found.pair.id for found in serving.search(Search("newt")).neighbors] == ["new"]
    assert len(list(local.glob("data-*"))) == 1
    serving.close()
    server.close()
    # Without the store it starts with the mirror; missing images are refused, see above.
    with mirrored(local, store) as base:
        assert base.images.read(pairs(base)["new"]).startswith(b"\x89PNG")
    with pytest.raises(Unavailable, match=r"does not answer for manifest\.json"):
        mirror(store, tmp_path / "other")


def newts_base(folder: Path) -> Path:
    """Build another base, of one pair."""
    write(folder / "newts-source", {"newt": noise()})
    build(open_source(folder / "newts-source"), folder / "newts")
    return folder / "newts"


def test_a_union_in_a_store_equals_the_local_union(kept: Path, http: Opened, tmp_path: Path) -> None:
    server, local = http(), tmp_path / "local"
    newts = newts_base(tmp_path)
    unite(tmp_path / "union", [kept, newts])
    there = tmp_path / "bucket" / "union"
    snapshot(tmp_path / "union", there)
    store = store_of(f"{server.url}/union")
    here = KnowledgeBase.open(there)
    with mirrored(local, store) as base:
        assert base.manifest == here.manifest
        assert pairs(base) == pairs(here)
        for pair in pairs(base).values():
            assert base.images.read(pair) == here.images.read(pair)
    assert not list(local.rglob("*.tar"))
    # All parts share the cache of images.
    assert [path.parent for path in local.rglob("cache.db")] == [local / "images"]
    here.close()
    asked = len(server.asked)
    mirror(store, local)
    assert [path for path, _ in server.asked[asked:]] == [
        f"/union/{name}manifest.json" for name in ("", "parts/00000/", "parts/00001/")
    ]

    # A newer one with parts beside it replaces it, and is still served without the store.
    write(tmp_path / "olms-source", {"olm": noise()})
    build(open_source(tmp_path / "olms-source"), tmp_path / "bucket" / "olms")
    there.rename(tmp_path / "old")
    beside = (Path(os.path.relpath(folder)) for folder in (kept, tmp_path / "bucket" / "olms"))
    unite(Path(os.path.relpath(there)), list(beside))
    with mirrored(local, store) as base:
        olm = pairs(base)["olm"]
        image = base.images.read(olm)
    assert len(list(local.glob("parts/*"))) == 2  # The parts of the first one are removed.
    server.close()
    with mirrored(local, store_of(f"{server.url}/union", seconds=0.2)) as base:
        assert base.images.read(olm) == image
        with pytest.raises(Unavailable):
            base.images.read(pairs(base)["fox"].model_copy(update={"sha256": "0" * 64}))
        assert "images that are not cached can't be read" in str(base.images.degraded_reason())

    # A base can replace a union.
    again = http(server.port)
    shutil.rmtree(there)
    snapshot(newts, there)
    with mirrored(local, store) as base:
        assert list(pairs(base)) == ["newt"]
    assert again.asked
    assert not (local / "parts").exists()


def test_a_base_in_a_store_is_read_only(kept: Path, http: Opened, tmp_path: Path) -> None:
    address, local = f"{http().url}/kb", tmp_path / "local"
    mirror(store_of(address), local)
    for change in (
        lambda: LiveWriter(local, Holder(work="test")),
        lambda: verify(local),
        lambda: snapshot(local, tmp_path / "copy"),
    ):
        with pytest.raises(InvalidArgument, match=rf"is read-only: .*{address}"):
            change()
    assert not (tmp_path / "copy").exists()


def test_an_incomplete_base_is_reported(kept: Path, http: Opened, tmp_path: Path) -> None:
    url, local = http().url, tmp_path / "local"
    with pytest.raises(NotFound, match=rf"{url}/nothing is not a complete knowledge base"):
        mirror(store_of(f"{url}/nothing"), local)
    with pytest.raises(InvalidArgument, match=r"s3://bucket/kb can't be reached: Install s3fs"):
        mirror(store_of("s3://bucket/kb"), local)
    newts = newts_base(tmp_path)
    unite(tmp_path / "bucket" / "union", [newts, kept])
    with pytest.raises(
        InvalidArgument, match=rf"{url}/union is a union that names a folder .*, {newts}: upload a `snapshot`"
    ):
        mirror(store_of(f"{url}/union"), local)
    snapshot(tmp_path / "bucket" / "union", tmp_path / "bucket" / "whole")
    shutil.rmtree(tmp_path / "bucket" / "whole" / "parts" / "00001")
    with pytest.raises(NotFound, match=rf"{url}/whole/parts/00001 is not a complete knowledge base"):
        mirror(store_of(f"{url}/whole"), local)
    shutil.copytree(kept, tmp_path / "bucket" / "half")
    shutil.rmtree(next((tmp_path / "bucket" / "half").glob("data-*/lucene")))
    with pytest.raises(ReimagenError, match=rf"{url}/half is incomplete: .*/lucene.* is missing"):
        mirror(store_of(f"{url}/half"), local)
    next(kept.glob("data-*/shards/00000.tar")).unlink()
    with pytest.raises(ReimagenError, match=rf"{url}/kb is incomplete: .*/00000\.tar is missing"):
        mirror(store_of(f"{url}/kb"), local)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/kb"
        with pytest.raises(Unavailable, match=rf"{nobody} does not answer for manifest\.json"):
            mirror(store_of(nobody), local)


def test_several_processes_of_a_store_mirror_its_index_once(
    kept: Path, http: Opened, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REIMAGEN_RETRIEVER_LOCAL_FOLDER", str(tmp_path / "local"))
    monkeypatch.setenv("REIMAGEN_RETRIEVER_PROCESSES", "2")
    server = http()
    with serve(f"{server.url}/kb") as service:
        (found,) = service.stub.Search(pb.SearchRequest(query="a kea", k=1)).neighbors
        assert (found.pair.id, found.pair.image[:4]) == ("kea", b"\x89PNG")
        with pytest.raises(grpc.RpcError) as caught:
            service.stub.DeletePairs(pb.DeletePairsRequest(ids=["kea"]))
        assert re.search("is read-only", str(caught.value))
    segments = [path for path, _ in server.asked if "/lucene/segments_" in path]
    assert len(segments) == 1
