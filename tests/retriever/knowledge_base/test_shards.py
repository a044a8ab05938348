import hashlib
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.image import ImageFacts
from reimagen_retriever.knowledge_base.pair import SourcePair
from reimagen_retriever.knowledge_base.shards import ImageStore, Shard, ShardWriter

FACTS = ImageFacts("image/webp", 3, 2)


def pair(number: int, image: bytes) -> SourcePair:
    return SourcePair("here", f"id {number}", f"text {number}", image, "source", "MIT")


@settings(deadline=None)
@given(images=st.lists(st.binary(min_size=1, max_size=1_500), min_size=1, max_size=12), per_shard=st.integers(1, 5))
def test_images_are_read_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, images: list[bytes], per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("store") / "shards"
    with ShardWriter(folder, per_shard) as writer:
        stored = [writer.add(pair(number, image), FACTS) for number, image in enumerate(images)]
    assert sum(shard.pairs for shard in writer.shards) == len(images)
    assert len(writer.shards) == -(-len(images) // per_shard)
    store = ImageStore(folder, writer.shards)
    assert [store.read(one) for one in reversed(stored)] == images[::-1]
    store.close()


def test_a_shard_has_img2datasets_format(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shards") as writer:
        writer.add(pair(0, b"first"), FACTS)
        writer.add(pair(1, b"second"), FACTS)
    with tarfile.open(tmp_path / "shards" / "00000.tar") as tar:
        names = tar.getnames()
        columns = json.load(tar.extractfile("000000001.json"))  # type: ignore[arg-type]
    keys = ["000000000", "000000001"]
    assert names == [f"{key}.{kind}" for key in keys for kind in ("webp", "txt", "json")]
    assert columns == {
        "key": "000000001",
        "status": "success",
        "id": "id 1",
        "caption": "text 1",
        "url": "source",
        "license": "MIT",
        "width": 3,
        "height": 2,
        "sha256": hashlib.sha256(b"second").hexdigest(),
    }


def test_the_same_pairs_give_the_same_file(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        with ShardWriter(tmp_path / name) as writer:
            writer.add(pair(0, b"first"), FACTS)
        digests.append(writer.shards[0].sha256)
    assert digests[0] == digests[1]


def test_a_missing_shard_or_one_of_another_size_is_reported(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shards") as writer:
        writer.add(pair(0, b"first"), FACTS)
    path = tmp_path / "shards" / "00000.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(DamagedError, match=r"00000\.tar has 9,728 bytes, the manifest says 10,240"):
        ImageStore(tmp_path / "shards", writer.shards)
    path.unlink()
    with pytest.raises(DamagedError, match=r"00000\.tar: No such file"):
        ImageStore(tmp_path / "shards", writer.shards)


def test_a_shard_truncated_after_opening_is_reported(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shards") as writer:
        stored = writer.add(pair(0, b"first"), FACTS)
    store = ImageStore(tmp_path / "shards", writer.shards)
    (tmp_path / "shards" / "00000.tar").write_bytes(b"")
    with pytest.raises(DamagedError, match="ends within the image of id 0"):
        store.read(stored)
    store.close()


def test_a_manifest_names_a_shard_in_full() -> None:
    assert set(Shard.model_fields) == {"name", "size", "pairs", "sha256"}
