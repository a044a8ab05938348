"""The demonstration's knowledge base, built and served by the real retriever."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import grpc
import pytest
from PIL import Image

from reimagen.v1 import retrieval_pb2, retrieval_pb2_grpc
from reimagen_demo.art.entities import entities
from reimagen_demo.art.icons import STYLES, Art
from reimagen_demo.art.images import PAIR_SIDE, PairImages
from reimagen_demo.report.recall import geometry_questions, measure, questions
from reimagen_demo.scenes.registry import SCENES
from reimagen_demo.stack import knowledge_base
from reimagen_demo.stack.knowledge_base import PairNote
from reimagen_demo.stack.processes import Child, free_address, serving_grpc
from reimagen_retriever.knowledge_base.manifest import read_manifest

SECONDS = 120
FEW = entities()[::190]


@pytest.fixture(scope="module")
def shards(art: Art, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    knowledge_base.write_shards(knowledge_base.pairs(art, FEW), folder)
    return folder


def test_every_pair_has_caption_source_and_license(art: Art, shards: Path) -> None:
    with tarfile.open(shards / "00000.tar") as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    notes = [json.loads(data) for name, data in content.items() if name.endswith(".json")]
    of_entities = [note for note in notes if note["entity"]]
    assert len(of_entities) == len(FEW) * len(STYLES)
    for note in of_entities:
        entity = next(entity for entity in FEW if entity.name == note["entity"])
        assert note["caption"] == entity.phrase == content[f"{note['key']}.txt"].decode()
        assert note["source"].startswith(f"npm:@iconify-json/{note['style']}@")
        assert note["license"] in {"MIT", "Apache-2.0", "CC-BY-4.0"}
        with Image.open(io.BytesIO(content[f"{note['key']}.png"])) as image:
            assert image.size == (note["width"], note["height"]) == (PAIR_SIDE, PAIR_SIDE)


def test_empty_scenes_are_in_the_base(shards: Path) -> None:
    with tarfile.open(shards / "00000.tar") as tar:
        captions = {tar.extractfile(member).read().decode() for member in tar if member.name.endswith(".txt")}  # type: ignore[union-attr]
    assert {scene.caption for scene in SCENES} < captions


def test_shards_are_the_same_every_time(art: Art, shards: Path, tmp_path: Path) -> None:
    knowledge_base.write_shards(knowledge_base.pairs(art, FEW), tmp_path)
    assert (tmp_path / "00000.tar").read_bytes() == (shards / "00000.tar").read_bytes()


def test_shards_of_an_earlier_build_are_removed(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "00007.tar").write_bytes(b"of another time")
    knowledge_base.write_shards([], tmp_path)
    assert not list(tmp_path.glob("*.tar"))


def test_a_drawing_is_centered_on_a_plain_pale_background(art: Art) -> None:
    image = PairImages(art).draw(FEW[0], STYLES[2])
    corner = image.getpixel((0, 0))
    assert isinstance(corner, tuple)
    assert min(corner) > 200
    different = [(x, y) for x in range(PAIR_SIDE) for y in range(PAIR_SIDE) if image.getpixel((x, y)) != corner]
    left, right = min(x for x, _ in different), max(x for x, _ in different)
    top, bottom = min(y for _, y in different), max(y for _, y in different)
    assert max(right - left, bottom - top) == pytest.approx(192, abs=2)
    assert left + right == pytest.approx(PAIR_SIDE - 1, abs=2)
    assert top + bottom == pytest.approx(PAIR_SIDE - 1, abs=2)


def test_a_complete_base_is_kept_and_a_changed_one_rebuilt(art: Art) -> None:
    base = knowledge_base.build(art.folder, FEW[:2])
    first = read_manifest(base)
    assert first.pairs == 2 * len(STYLES) + len(SCENES) * knowledge_base.SCENE_IMAGES
    assert not first.rejected
    assert knowledge_base.build(art.folder, FEW[:2]) == base
    assert read_manifest(base).revision == first.revision
    knowledge_base.build(art.folder, FEW[:3])
    assert read_manifest(base).pairs == first.pairs + len(STYLES)


@pytest.fixture(scope="module")
def retriever(art: Art, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Open a real retriever over all captions of the demonstration; the images are noise."""
    folder = tmp_path_factory.mktemp("captions")
    rng = Random("noise")

    def noise() -> bytes:
        buffer = io.BytesIO()
        Image.frombytes("RGB", (8, 8), rng.randbytes(192)).save(buffer, "PNG")
        return buffer.getvalue()

    def captions() -> Iterator[tuple[PairNote, bytes]]:
        for entity in entities():
            for style in STYLES:
                yield knowledge_base.note(art, entity, style), noise()
        for reported, _ in knowledge_base.scene_pairs():
            yield reported, noise()

    knowledge_base.write_shards(captions(), folder / "pairs")
    knowledge_base.index(folder / "pairs", folder / "kb")
    address = free_address(0)
    with Child(["reimagen-retriever", "serve", str(folder / "kb"), "--grpc", address], folder / "log") as child:
        child.wait_until(lambda: serving_grpc(address), SECONDS)
        yield address


@pytest.mark.parametrize("minimum_score", [None, 0.0], ids=["as served", "plain BM25"])
def test_retrieval_finds_the_entity_that_a_prompt_names(retriever: str, minimum_score: float | None) -> None:
    recall = measure(retriever, questions(entities(), 400, seed=1), minimum_score)
    assert recall.both / recall.asked >= 0.95, recall.misses


def test_retrieval_finds_the_entity_of_a_prompt_that_states_geometry_or_has_unseen_words(retriever: str) -> None:
    asked = geometry_questions(200, seed=1) + questions(entities(), 100, seed=2, unseen=True)
    recall = measure(retriever, asked, None)
    assert recall.both / recall.asked >= 0.95, recall.misses


def test_the_preferred_styles_are_found_first(retriever: str) -> None:
    with grpc.insecure_channel(retriever) as channel:
        stub = retrieval_pb2_grpc.RetrievalStub(channel)
        answer = stub.Search(retrieval_pb2.SearchRequest(query="a panda in the snow", k=4), timeout=SECONDS)
    assert [neighbor.pair.license for neighbor in answer.neighbors] == ["MIT", "Apache-2.0", "CC-BY-4.0", "MIT"]
    assert "fluent-emoji@" in answer.neighbors[0].pair.source
