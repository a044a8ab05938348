"""Whatever bytes a source holds, its entries are pairs and reasons, never an exception.

`make torture` runs these with 10,000 examples each (REIMAGEN_EXAMPLES).
"""

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source

ROOT = "/bad"
fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

Damage = list[tuple[float, int, bytes]]
damages: st.SearchStrategy[Damage] = st.lists(
    # The position as a share of the file; the number of bytes removed there; the bytes inserted.
    st.tuples(
        st.floats(0, 1), st.integers(0, 600), st.binary(max_size=40) | st.sampled_from([b"\x00" * 512, b"\xff" * 64])
    ),
    max_size=4,
)
texts = st.text(st.characters() | st.sampled_from("\x00\ud800\n\t/.,\"'{}"), max_size=40)
values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.lists(texts, max_size=2)
    | st.dictionaries(texts, texts, max_size=1)
)
columns = st.sampled_from(
    [
        "image",
        "file_name",
        "FILE_NAME",
        "path",
        "text",
        "TEXT",
        "caption",
        "id",
        "url",
        "license",
        "punsafe",
        "NSFW",
        "pwatermark",
        "similarity",
        "key",
        "",
    ]
)


def damaged(data: bytes, damage: Damage) -> bytes:
    for place, removed, added in damage:
        start = int(place * len(data))
        data = data[:start] + added + data[start + removed :]
    return data


def check(files: Mapping[str, bytes], metadata: str = "") -> list[SourcePair | Rejected]:
    """Read all entries, and check each pair as a build does."""
    store = fsspec.filesystem("memory")
    if store.exists(ROOT):
        store.rm(ROOT, recursive=True)
    for name, data in files.items():
        store.pipe_file(f"{ROOT}/{name}", data)
    try:
        source = open_source(f"memory:/{ROOT}", metadata)
    except InvalidArgument:
        return []
    assert source.size() >= 0
    entries = list(source.entries())
    assert list(source.entries(len(entries) // 2)) == entries[len(entries) // 2 :]
    for entry in entries:
        assert entry.location
        if isinstance(entry, Rejected):
            assert entry.reason
            continue
        try:
            pair, _ = checked_pair(entry)
        except RejectedError:
            continue
        json.dumps(pair.caption).encode()
    return entries


@pytest.fixture(scope="module")
def image() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((16, 16), 80).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def shard(img2dataset: Callable[..., Path], image: bytes) -> dict[str, bytes]:
    rows = [{"image": image, "caption": f"a fox {number}", "url": f"u{number}"} for number in range(3)]
    return read(img2dataset([*rows, {"caption": "x", "error_message": "404"}]))


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@fuzzed
@given(damage=damages)
def test_damaged_tars_are_read_or_reported(shard: dict[str, bytes], damage: Damage) -> None:
    assert check(shard | {"00000.tar": damaged(shard["00000.tar"], damage)})


@fuzzed
@given(data=st.binary(max_size=2_000))
def test_any_bytes_as_a_tar_are_read_or_reported(data: bytes) -> None:
    check({"00000.tar": data})


@fuzzed
@given(
    members=st.lists(
        st.tuples(
            st.sampled_from(["1.jpg", "1.txt", "1.json", "../2.jpg", "/3.jpg", "4.a/5.png", "..", "6.", ".jpg"])
            | texts,
            st.binary(max_size=50) | st.sampled_from([b"{}", b'{"id": "a/b.c"}', b"[" * 5_000]),
            st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]),
        ),
        max_size=8,
    )
)
def test_strange_members_of_tars_are_read_or_reported(members: list[tuple[str, bytes, bytes]]) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, errors="surrogatepass") as tar:
        for name, data, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(data))
    for entry in check({"00000.tar": file.getvalue()}):
        assert not (isinstance(entry, SourcePair) and entry.location.startswith(("00000.tar/../", "00000.tar//")))


@fuzzed
@given(damage=damages)
def test_damaged_tables_beside_tars_are_read_or_reported(shard: dict[str, bytes], damage: Damage) -> None:
    entries = check(shard | {"00000.parquet": damaged(shard["00000.parquet"], damage)})
    assert len([entry for entry in entries if isinstance(entry, SourcePair)]) <= 3
    assert len(entries) >= 3


@fuzzed
@given(rows=st.lists(st.dictionaries(columns, values, max_size=6), min_size=1, max_size=5))
def test_lists_of_any_values_are_read_or_reported(rows: list[dict[str, Any]], image: bytes) -> None:
    files = {f"{name}.jpg": image for name in ("a", "b")}
    lines = "\n".join(map(json.dumps, rows)).encode()
    entries = check(files | {"metadata.jsonl": lines})
    assert len(entries) == len(rows)
    assert check(files | {"captions.csv": b"image,text,id\n" + lines}) is not None


@fuzzed
@given(
    data=st.binary(max_size=500) | texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
    kind=st.sampled_from(["csv", "jsonl", "parquet"]),
)
def test_any_bytes_as_a_list_are_read_or_reported(data: bytes, kind: str, image: bytes) -> None:
    check({"a.jpg": image, f"captions.{kind}": data})
    check({"a.jpg": image, "captions.csv": b"image,text\na.jpg,a fox\n" + data})


@fuzzed
@given(damage=damages)
def test_damaged_parquet_lists_are_read_or_reported(
    parquet_file: Callable[..., Path], tmp_path: Path, image: bytes, damage: Damage
) -> None:
    rows = [{"file_name": "a.jpg", "text": f"a fox {number}", "punsafe": 0.5} for number in range(20)]
    data = parquet_file(tmp_path / "x" / "metadata.parquet", rows).read_bytes()
    check({"a.jpg": image, "metadata.parquet": damaged(data, damage)})


@fuzzed
@given(damage=damages)
def test_damaged_metadata_of_laion_is_read_or_reported(
    shard: dict[str, bytes], parquet_file: Callable[..., Path], tmp_path: Path, damage: Damage
) -> None:
    rows = [{"URL": f"u{number}", "TEXT": f"a fox {number}", "punsafe": 0.5} for number in range(20)]
    path = parquet_file(tmp_path / "laion.parquet", rows)
    path.write_bytes(damaged(path.read_bytes(), damage))
    check(shard, str(path))


@fuzzed
@given(name=st.sampled_from(["imgs.tsv", "imgs.lineidx", "WebQA_train_val.json"]), damage=damages)
def test_damaged_files_of_webqa_are_read_or_reported(
    webqa: Callable[[Mapping[int, tuple[str, bytes]]], Path], tmp_path: Path, image: bytes, name: str, damage: Damage
) -> None:
    folder = tmp_path / "webqa"
    if not folder.exists():
        webqa({30_000_000 + number: (f"a fox {'x' * number}", image) for number in range(4)})
    files = read(folder)
    for entry in check(files | {name: damaged(files[name], damage)}):
        if isinstance(entry, SourcePair) and name == "imgs.lineidx":
            assert entry.image == image


@fuzzed
@given(damage=damages)
def test_damaged_captions_of_coco_are_read_or_reported(
    coco: Callable[[Mapping[int, Sequence[str]]], Path], tmp_path: Path, damage: Damage
) -> None:
    folder = tmp_path / "coco"
    files = read(folder if folder.exists() else coco({139: ["a fox", "a red fox"], 285: ["a kea"]}))
    name = "annotations/captions_val2017.json"
    check(files | {name: damaged(files[name], damage)})


@fuzzed
@given(damage=damages, kind=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_damaged_images_are_read_or_reported(damage: Damage, kind: str) -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((24, 16), 80).convert("RGB").save(file, kind)
    (entry,) = check({"a.jpg": damaged(file.getvalue(), damage), "a.txt": b"a fox"})
    assert isinstance(entry, SourcePair)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a k\x00ea", "bad characters"),
        ("a k\ud800ea", "bad characters"),
        ("word " * 10_000, "caption too long"),
        ("\u200b", "empty caption"),
    ],
)
def test_invalid_captions_are_read_or_reported(image: bytes, text: str, reason: str) -> None:
    rows = [
        {"image": "a.jpg", "text": text, "id": "a/b.c/../d"},
        {"image": "a.jpg", "text": "a fox", "id": "a/b.c/../d"},
    ]
    bad, good = check({"a.jpg": image, "captions.jsonl": "\n".join(map(json.dumps, rows)).encode()})
    assert isinstance(bad, SourcePair)
    assert isinstance(good, SourcePair)
    with pytest.raises(RejectedError, match=reason):
        checked_pair(bad)
    assert checked_pair(good)[0].id == "a/b.c/../d"
