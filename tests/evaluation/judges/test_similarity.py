"""CLIP-T, CLIP-I and DINO on known features; the comparison of the networks is in parity/."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation.benches.item import Item, Reference
from reimagen_evaluation.features.network import Features, Images
from reimagen_evaluation.judges.similarity import ClipJudge, ReferenceJudge


class MeanColor:
    """A feature network whose image features are the mean color, and text features the named color."""

    name = "mean color"
    side = 4
    channels = 3
    looks = 0

    def features(self, images: Images) -> Features:
        self.looks += len(images)
        return np.asarray(images.mean(axis=(1, 2)), np.float32)

    def text_features(self, texts: Sequence[str]) -> Features:
        return np.array([[float(text == name) for name in ("red", "green", "blue")] for text in texts], np.float32)


def plain(*color: int, side: int = 6) -> np.ndarray:
    return np.full((side, side, 3), color, np.uint8)


@pytest.fixture
def references(tmp_path: Path) -> tuple[Reference, ...]:
    for name, color in (("red", (200, 0, 0)), ("green", (0, 100, 0))):
        Image.fromarray(plain(*color)).save(tmp_path / f"{name}.png")
    return tuple(Reference(tmp_path / f"{name}.png", name) for name in ("red", "green"))


def test_clip_i_is_the_mean_cosine_with_each_reference(references: tuple[Reference, ...]) -> None:
    items = [
        Item("a", "red", ("x",), "", "g", references),
        Item("b", "red", ("x",), "", "g", references[:1]),
        Item("c", "red", ("x",), "", "g"),
    ]
    network = MeanColor()
    judge = ReferenceJudge(network, "DINO")
    # The image has another size; (3, 4, 0) has cosines of 0.6 and 0.8 with red and green.
    images = [plain(30, 40, 0), plain(30, 40, 0, side=9), plain(1, 2, 3)]
    np.testing.assert_allclose(judge.scores(images, items)["DINO"], [0.7, 0.6, np.nan], rtol=1e-6)
    assert network.looks == 5  # each reference once


def test_images_and_prompts(references: tuple[Reference, ...]) -> None:
    items = [Item("a", "green", ("x",), "", "g", references), Item("b", "blue", ("x",), "", "g")]
    scores = ClipJudge(MeanColor()).scores([plain(30, 40, 0), plain(0, 0, 9)], items)  # type: ignore[arg-type]
    np.testing.assert_allclose(scores["CLIP-T"], [0.8, 1.0], rtol=1e-6)
    np.testing.assert_allclose(scores["CLIP-I"], [0.7, np.nan], rtol=1e-6)


def test_an_unreadable_reference_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"no image")
    wanted = Item("a", "red", ("x",), "", "g", (Reference(tmp_path / "cat.png", "a cat"),))
    with pytest.raises(InvalidArgument) as caught:
        ReferenceJudge(MeanColor(), "DINO").scores([plain(1, 2, 3)], [wanted])
    assert caught.value.field == "reference cat.png"
