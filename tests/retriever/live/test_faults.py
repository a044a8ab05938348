"""Full and read-only disks: changes are refused, nothing is partial, searches continue."""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from reimagen.v1 import retrieval_pb2 as pb
from reimagen_retriever.maintenance.verify import verify

MakeBase = Callable[..., Path]
MakeImage = Callable[..., bytes]
Serve = Callable[..., AbstractContextManager[Any]]

MEGABYTE = 1024 * 1024


def noise(tmp_path: Path) -> bytes:
    """Return an image file of about 3 MB."""
    Image.frombytes("RGB", (1_000, 1_000), os.urandom(3_000_000)).save(tmp_path / "noise.png")
    return (tmp_path / "noise.png").read_bytes()


def add(service: Any, identifier: str, text: str, image: bytes) -> Any:
    return service.stub.AddPairs(iter([pb.AddPairsRequest(id=identifier, caption=text, image=image)]))


def ids(service: Any, query: str) -> list[str]:
    answer = service.stub.Search(pb.SearchRequest(query=query, k=16, omit_images=True))
    return [neighbor.pair.id for neighbor in answer.neighbors]


def refusal(service: Any, identifier: str, text: str, image: bytes) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        add(service, identifier, text, image)
    status: grpc.Call = caught.value  # type: ignore[assignment]
    assert status.code() == grpc.StatusCode.UNAVAILABLE
    return str(status.details())


@contextmanager
def files_of_at_most(service: Any, size: int) -> Iterator[None]:
    """Limit the size of the service's files: as on a full disk, the system refuses to write."""
    pid = service.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_changes_are_refused_until_there_is_space(
    tmp_path: Path, base: MakeBase, make_image: MakeImage, serve: Serve
) -> None:
    folder, image = base({"a": "a fox"}), noise(tmp_path)
    with serve(folder) as service:
        add(service, "small", "a kea", make_image())
        revision = service.stub.Describe(pb.DescribeRequest()).revision
        with files_of_at_most(service, MEGABYTE):
            for _ in range(2):
                reported = refusal(service, "large", "a large hotel", image)
                assert reported == f"cannot write to {folder}: File too large; nothing was changed"
                assert (ids(service, "a hotel"), ids(service, "a kea"), ids(service, "a fox")) == ([], ["small"], ["a"])
            assert service.stub.Describe(pb.DescribeRequest()).revision == revision
            assert verify(folder)[1] == []
            # Changes that fit are accepted.
            assert service.stub.DeletePairs(pb.DeletePairsRequest(ids=["small"])).removed == 1
            add(service, "another", "a kea", make_image("blue"))
        add(service, "large", "a large hotel", image)
        # A removal writes only Lucene's few bytes.
        with files_of_at_most(service, 16):
            with pytest.raises(grpc.RpcError) as caught:
                service.stub.DeletePairs(pb.DeletePairsRequest(ids=["a"]))
            assert "cannot write to" in str(caught.value)
            assert ids(service, "a fox") == ["a"]
        assert service.stub.DeletePairs(pb.DeletePairsRequest(ids=["a"])).removed == 1
        assert (ids(service, "a hotel"), ids(service, "a kea"), ids(service, "a fox")) == (["large"], ["another"], [])
        assert service.stub.GetPair(pb.GetPairRequest(id="large")).image == image
    assert verify(folder)[1] == []


OBEYING_WRITE_BITS = (
    sys.executable,
    "-c",
    # Without CAP_DAC_OVERRIDE in the bounding set, root obeys write bits too.
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])",
)


@pytest.mark.parametrize("files_too", [True, False])
def test_a_read_only_folder_is_served_and_changes_are_refused_with_the_reason(
    base: MakeBase, make_image: MakeImage, serve: Serve, files_too: bool
) -> None:
    folder = base({"a": "a fox"})
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths if files_too or path.is_dir()}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        with serve(folder, OBEYING_WRITE_BITS) as service:
            reported = refusal(service, "k", "a kea", make_image())
            assert "cannot write to" in reported
            assert str(folder) in reported
            assert (ids(service, "a fox"), ids(service, "a kea")) == (["a"], [])
            for path, mode in modes.items():
                path.chmod(mode)
            add(service, "k", "a kea", make_image())
            assert ids(service, "a kea") == ["k"]
    finally:
        for path, mode in modes.items():
            path.chmod(mode) if path.exists() else None
    assert verify(folder)[1] == []


def test_a_broken_stream_can_be_sent_again(base: MakeBase, make_image: MakeImage, serve: Serve) -> None:
    folder = base({"a": "a fox"})
    requests = [pb.AddPairsRequest(id=f"{number}", caption="a kea", image=make_image()) for number in range(600)]

    def broken_off() -> Iterator[pb.AddPairsRequest]:
        yield from requests[:400]
        raise OSError("the client's disk is gone")

    with serve(folder) as service:
        with pytest.raises(grpc.RpcError):
            service.stub.AddPairs(broken_off())
        answer = service.stub.AddPairs(iter(requests))
        assert answer.added + answer.unchanged == 600
        assert answer.updated == 0
        again = service.stub.AddPairs(iter(requests))
        assert (again.added, again.unchanged, again.revision) == (0, 600, answer.revision)
        rejecting = service.stub.AddPairs(iter([pb.AddPairsRequest(id="x", caption="a kea", image=b"GIF89a")]))
        assert [(each.location, each.reason) for each in rejecting.rejections] == [("pairs[0]", "broken image")]
        assert rejecting.rejected == 1
    assert "unexpected failure" not in service.logged.log
    assert verify(folder)[1] == []
