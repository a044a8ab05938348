import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.encoder import Encoder
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.folder_lock import Holder
from reimagen_retriever.knowledge_base.integrity import Damage
from reimagen_retriever.knowledge_base.manifest import read_manifest
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.live.writer import LiveWriter, Outcome, Remove
from reimagen_retriever.maintenance.compact import compact
from reimagen_retriever.maintenance.snapshot import snapshot
from reimagen_retriever.maintenance.verify import verify
from reimagen_retriever.search import Defaults, Search, find
from reimagen_retriever.vectors.make import make_vectors

MakeBase = Callable[..., Path]
MakeEncoder = Callable[[Mapping[str, Sequence[float]]], Path]
MakeImage = Callable[..., bytes]

WORDS = {"dog": [1.0, 0.0, 0.0], "hound": [0.9, 0.1, 0.0], "cat": [0.0, 1.0, 0.0], "a": [0.01, 0.01, 0.01]}
CAPTIONS = {"1": "a dog", "2": "a cat", "3": "a dog, a cat", "4": "a cat cat"}
COLORS = {"red": [1.0, -1.0, -1.0], "blue": [-1.0, -1.0, 1.0], "thing": [0.01, 0.01, 0.01]}


def dense(folder: Path, query: str, k: int = 2) -> list[str]:
    base = KnowledgeBase.open(folder)
    try:
        return [
            hit.pair.id for hit in find(base, Search(query, k, method="dense", minimum_score=-1), Defaults("entity"))
        ]
    finally:
        base.close()


@pytest.fixture
def encoder(sentence_encoder: MakeEncoder) -> Path:
    return sentence_encoder(WORDS)


@pytest.fixture
def colors(tmp_path: Path, make_image: MakeImage) -> Path:
    """Build a base of a red and a blue image, with captions that do not mention the colors."""
    source = tmp_path / "colors"
    source.mkdir()
    rows = []
    for number, color in enumerate(("red", "blue", "#ff2000")):
        (source / f"{number}.png").write_bytes(make_image(color))
        rows.append({"image": f"{number}.png", "caption": "thing", "id": color, "url": f"https://x.example/{number}"})
    (source / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build(open_source(source), tmp_path / "colors-kb")
    return tmp_path / "colors-kb"


def test_texts_are_found_by_their_meaning(base: MakeBase, encoder: Path) -> None:
    folder = base(CAPTIONS)
    before = read_manifest(folder)
    with pytest.raises(InvalidArgument, match="method: this knowledge base has no vectors; make them with"):
        dense(folder, "hound")
    manifest = make_vectors(folder, encoder)
    assert manifest == read_manifest(folder)
    vectors = manifest.vectors
    assert vectors
    assert (vectors.of, vectors.kind, vectors.pairs, vectors.dimension) == ("texts", "flat", 4, 3)
    assert vectors.encoder_digest == Encoder(encoder).digest
    assert manifest.model_copy(update={"vectors": None}) == before
    assert dense(folder, "a hound") == ["1", "3"]
    assert make_vectors(folder, encoder) == manifest


def test_one_in_a_thousand_unrelated_pairs_reaches_the_minimum_score(base: MakeBase, encoder: Path) -> None:
    folder = base(CAPTIONS)
    manifest = make_vectors(folder, encoder)
    texts = list(CAPTIONS.values())
    cosines = Encoder(encoder).texts(texts, "query") @ Encoder(encoder).texts(texts, "document").T
    unrelated = [cosines[i, j] for i in range(4) for j in range(4) if i != j]
    assert manifest.vectors
    assert manifest.vectors.minimum_cosine == pytest.approx(np.quantile(unrelated, 0.999), abs=1e-3)


def test_images_are_found_by_their_content(colors: Path, clip_encoder: MakeEncoder) -> None:
    manifest = make_vectors(colors, clip_encoder(COLORS))
    assert manifest.vectors
    assert manifest.vectors.of == "images"
    assert dense(colors, "a red thing") == ["red", "#ff2000"]
    assert dense(colors, "a blue thing", 1) == ["blue"]


def test_new_vectors_replace_the_old_ones(
    colors: Path, clip_encoder: MakeEncoder, sentence_encoder: MakeEncoder
) -> None:
    first = make_vectors(colors, clip_encoder(COLORS))
    base = KnowledgeBase.open(colors)
    second = make_vectors(colors, sentence_encoder({"thing": [1.0, 0.0]}))
    assert first.vectors
    assert second.vectors
    assert second.vectors.dimension == 2
    assert [path.name for path in (colors / second.folder).glob("vectors-*")] == [second.vectors.folder]
    # A service with open old vectors continues with them.
    assert [hit.pair.id for hit in find(base, Search("red", method="dense", minimum_score=-1), Defaults("entity"))] == [
        "red",
        "#ff2000",
    ]
    base.close()


def test_an_interrupted_encoding_resumes(base: MakeBase, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = base({f"{number:03}": "a dog" for number in range(300)} | {"last": "a cat"})
    monkeypatch.setattr("reimagen_retriever.index.dense._CHECKPOINT_SECONDS", 0)
    encoded: list[int] = []
    texts = Encoder.texts

    def interrupted(self: Encoder, given: Sequence[str], kind: str) -> object:
        if kind == "document":
            encoded.append(len(given))
            if len(encoded) == 2:
                raise KeyboardInterrupt
        return texts(self, given, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "texts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_vectors(folder, encoder)
    assert read_manifest(folder).vectors is None
    make_vectors(folder, encoder)
    assert encoded == [256, 45, 45]
    assert dense(folder, "cat", 1) == ["last"]


class TestGiven:
    """Vectors of images as LAION and clip-retrieval publish them."""

    def write(self, folder: Path, number: int, vectors: np.ndarray, **columns: list[str]) -> None:
        for name in ("img_emb", "metadata"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors.astype(np.float16))
        if columns:
            parquet.write_table(pa.table(columns), folder / "metadata" / f"metadata_{number}.parquet")

    RED, BLUE, ORANGE = np.array([[1, -1, -1]]), np.array([[-1, -1, 1]]), np.array([[1, -0.8, -1]])

    def test_given_vectors_are_matched_by_url(self, colors: Path, clip_encoder: MakeEncoder, tmp_path: Path) -> None:
        # The keys are those of another download.
        self.write(
            tmp_path / "given", 0, np.concatenate([self.BLUE, self.RED]), url=["https://x.example/1", "https://none"],
            image_path=["red", "blue"],
        )  # fmt: skip
        self.write(
            tmp_path / "given", 10, np.concatenate([self.ORANGE, self.RED]),
            url=["https://x.example/2", "https://x.example/0"], image_path=["x", "y"],
        )  # fmt: skip
        make_vectors(colors, clip_encoder(COLORS), given=tmp_path / "given")
        assert dense(colors, "red") == ["red", "#ff2000"]
        assert dense(colors, "blue", 1) == ["blue"]

    def test_given_vectors_are_matched_by_id(self, colors: Path, clip_encoder: MakeEncoder, tmp_path: Path) -> None:
        vectors = np.concatenate([self.BLUE, self.ORANGE, self.RED])
        self.write(tmp_path / "given", 0, vectors, image_path=["blue", "#ff2000", "red"])
        make_vectors(colors, clip_encoder(COLORS), given=tmp_path / "given")
        assert dense(colors, "red") == ["red", "#ff2000"]

    def test_given_vectors_are_matched_by_order(self, colors: Path, clip_encoder: MakeEncoder, tmp_path: Path) -> None:
        self.write(tmp_path / "given", 0, self.RED)
        self.write(tmp_path / "given", 1, np.concatenate([self.BLUE, self.ORANGE]))
        make_vectors(colors, clip_encoder(COLORS), given=tmp_path / "given")
        assert dense(colors, "red") == ["red", "#ff2000"]

    def test_unfit_input_is_refused(self, colors: Path, clip_encoder: MakeEncoder, tmp_path: Path) -> None:
        encoder = clip_encoder(COLORS)

        def refused(name: str, message: str) -> None:
            with pytest.raises(InvalidArgument, match=message):
                make_vectors(colors, encoder, given=tmp_path / name)
            assert read_manifest(colors).vectors is None

        (tmp_path / "none").mkdir()
        refused("none", r"given: .*none has no img_emb_\*\.npy")
        self.write(tmp_path / "few", 0, self.RED)
        refused("few", "has 1 vectors and no metadata_.*, but the base has 3 pairs")
        self.write(tmp_path / "others", 0, self.RED, url=["https://none"])
        refused("others", "no row of the metadata in .*others matches the pair 'red'")
        self.write(tmp_path / "wide", 0, np.ones((3, 5)))
        refused("wide", r"has float16 of shape \(3, 5\), expected floats of shape \(n, 3\)")
        self.write(tmp_path / "rows", 0, self.RED, url=["https://x.example/0", "https://x.example/1"])
        refused("rows", "has 2 rows, .* 1")
        self.write(tmp_path / "zero", 0, np.zeros((3, 3)))
        refused("zero", "the vector of 'red' is zero or not finite")
        self.write(tmp_path / "half", 0, self.RED, url=["https://x.example/0"])
        self.write(tmp_path / "half", 1, self.BLUE)
        refused("half", r"img_emb_1\.npy has no metadata_")


def test_compact_and_snapshot_keep_the_vectors(base: MakeBase, encoder: Path, tmp_path: Path) -> None:
    folder = base(CAPTIONS)
    make_vectors(folder, encoder)
    snapshot(folder, tmp_path / "copy")
    compacted = compact(folder)
    assert compacted.vectors
    for each in (folder, tmp_path / "copy"):
        assert dense(each, "a hound") == ["1", "3"]
    made = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vectors_of(folder).iterdir()}
    copied = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vectors_of(tmp_path / "copy").iterdir()
    }
    assert made == copied


def test_removed_pairs_are_not_found(base: MakeBase, encoder: Path) -> None:
    folder = base(CAPTIONS)
    make_vectors(folder, encoder)
    with LiveWriter(folder, Holder(work="test")) as writer:
        assert writer.apply([Remove("1")]) == [Outcome.REMOVED]
    assert dense(folder, "a hound") == ["3", "2"]
    compacted = compact(folder)
    assert compacted.vectors
    assert compacted.vectors.pairs == 3
    assert dense(folder, "a hound", 4) == ["3", "2", "4"]


def vectors_of(folder: Path) -> Path:
    manifest = read_manifest(folder)
    assert manifest.vectors
    return folder / manifest.folder / manifest.vectors.folder


def test_a_text_encoder_cannot_encode_images(base: MakeBase, encoder: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"of: .* has no vision_model"):
        make_vectors(base(CAPTIONS), encoder, "images")


@pytest.mark.parametrize("compacted", [False, True])
def test_a_flipped_bit_in_any_file_of_vectors_is_detected(base: MakeBase, encoder: Path, compacted: bool) -> None:
    kb = base(CAPTIONS)
    made = make_vectors(kb, encoder)
    manifest = compact(kb) if compacted else made
    assert manifest.vectors
    assert verify(kb)[1] == []
    folder = kb / manifest.folder / manifest.vectors.folder
    files = sorted(folder.iterdir())
    assert {path.name for path in files} == manifest.vectors.sha256.keys() >= {"vectors.npy", "index.faiss", "ids.npy"}
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert verify(kb)[1] == [
            Damage(f"{folder.name}/{path.name}", "is not as it was written; run `vectors` again to rebuild the vectors")
        ]
        path.write_bytes(whole)
