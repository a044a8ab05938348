import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.index.encoder import Encoder
from reimagen_retriever.index.encoder_pixels import ImageInput

MakeImage = Callable[..., bytes]
MakeEncoder = Callable[[Mapping[str, Sequence[float]]], Path]

WORDS = {"dog": [1.0, 0.0, 0.0], "cat": [0.0, 1.0, 0.0], "red": [0.0, 0.0, 2.0]}
COLORS = {"red": [1.0, -1.0, -1.0], "blue": [-1.0, -1.0, 1.0]}


@pytest.fixture
def folder(sentence_encoder: MakeEncoder) -> Path:
    return sentence_encoder(WORDS)


@pytest.fixture(scope="module")
def encoder(sentence_encoder: MakeEncoder) -> Encoder:
    return Encoder(sentence_encoder(WORDS))


def pooled(folder: Path, **modes: bool) -> Encoder:
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({f"pooling_mode_{name}": on for name, on in modes.items()} | {"include_prompt": True})
    )
    return Encoder(folder)


def unit(*vector: float) -> object:
    return pytest.approx(np.array(vector) / np.linalg.norm(vector), abs=1e-6)


def test_a_text_is_the_mean_of_its_tokens_in_any_batch(folder: Path) -> None:
    encoder = Encoder(folder)
    assert encoder.dimension == 3
    together = encoder.texts(["Dog", "dog cat", "red red cat dog dog"], "query")
    assert together.dtype == np.float32
    assert list(together[0]) == unit(1, 0, 0)
    assert list(together[1]) == unit(1, 1, 0)
    assert list(together[2]) == unit(2, 1, 4)
    assert list(encoder.texts(["dog cat"], "query")[0]) == list(together[1])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("cls_token", (1, 0, 0)), ("max_tokens", (1, 1, 2)), ("lasttoken", (0, 0, 1)), ("mean_tokens", (1, 1, 2))],
)
def test_tokens_are_pooled_as_configured(folder: Path, mode: str, expected: tuple[float, ...]) -> None:
    encoder = pooled(folder, **{mode: True, "weightedmean_tokens": False})
    # The longer text in the batch causes padding, which must have no effect.
    assert list(encoder.texts(["dog cat red", "dog dog dog dog dog"], "query")[0]) == unit(*expected)


def test_encoders_with_prefixes_get_them(folder: Path) -> None:
    prompts = {"prompts": {"query": "cat ", "document": "red "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    encoder = Encoder(folder)
    assert list(encoder.texts(["dog"], "query")[0]) == unit(1, 1, 0)
    assert list(encoder.texts(["dog"], "document")[0]) == unit(1, 0, 2)


def test_long_texts_are_truncated(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 2}))
    assert list(Encoder(folder).texts(["dog cat red red red"], "query")[0]) == unit(1, 1, 0)


@settings(deadline=None)
@given(st.lists(st.text(max_size=50), min_size=1, max_size=70))
def test_all_texts_have_unit_vectors(encoder: Encoder, texts: list[str]) -> None:
    texts = [f"dog {text}" for text in texts]
    vectors = encoder.texts([*texts, "dog \udcff"], "document")
    assert vectors.shape == (len(texts) + 1, 3)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)


def test_text_and_image_vectors_are_comparable(clip_encoder: MakeEncoder, make_image: MakeImage) -> None:
    encoder = Encoder(clip_encoder(COLORS))
    assert encoder.images_too
    texts = encoder.texts(["red", "blue"], "query")
    images = encoder.images([make_image("red"), make_image("blue", size=(90, 5), kind="JPEG"), make_image("#0000ff")])
    expected = np.array([[1, -1 / 3, -1 / 3], [-1 / 3, 1, 1]])
    # JPEG's blue is not quite blue.
    assert texts @ images.T == pytest.approx(expected, abs=0.01)


def test_the_digest_changes_with_all_that_vectors_depend_on(sentence_encoder: MakeEncoder) -> None:
    one, same = (sentence_encoder(WORDS) for _ in range(2))
    other = sentence_encoder({**WORDS, "cat": [0, 1, 1e-3]})
    assert Encoder(one).digest == Encoder(same).digest != Encoder(other).digest
    before = Encoder(one).digest
    (one / "README.md").write_text("about it")
    assert Encoder(one).digest == before
    pooled(one, cls_token=True)
    assert Encoder(one).digest != before


class TestImages:
    def test_an_image_is_resized_cropped_and_scaled(self, make_image: MakeImage) -> None:
        settings = {
            "size": 4,
            "do_center_crop": True,
            "crop_size": 4,
            "image_mean": [0.5, 0, 0],
            "image_std": [0.5, 1, 2],
        }
        pixels = ImageInput.of(settings, Path("settings")).pixels(make_image("#ff8040", size=(40, 20)))
        assert pixels.shape == (3, 4, 4)
        assert pixels.reshape(3, -1).max(1).tolist() == pixels.reshape(3, -1).min(1).tolist()
        assert pixels[:, 0, 0].tolist() == pytest.approx([1, 128 / 255, 64 / 255 / 2])

    def test_images_are_cropped_to_the_center(self) -> None:
        columns = np.repeat(np.arange(8, dtype=np.uint8) * 30, 4).reshape(8, 4).T
        file = io.BytesIO()
        Image.fromarray(np.stack([columns] * 3, axis=-1)).save(file, "PNG")
        settings = {
            "do_resize": False,
            "do_center_crop": True,
            "crop_size": {"height": 2, "width": 4},
            "do_normalize": False,
            "do_rescale": False,
        }
        pixels = ImageInput.of(settings, Path("settings")).pixels(file.getvalue())
        assert pixels[0].tolist() == [[60, 90, 120, 150]] * 2

    def test_without_a_crop_both_sides_are_resized(self, make_image: MakeImage) -> None:
        settings = {"size": {"height": 3, "width": 5}, "do_normalize": False}
        assert ImageInput.of(settings, Path("settings")).pixels(make_image()).shape == (3, 3, 5)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"size": 4}, "encoder: here.json: 'image_mean' is missing"),
            ({"size": {"height": 4}, "do_normalize": False}, "encoder: here.json: 'width' is missing"),
            ({"size": 4, "image_mean": [1, 2], "image_std": [1, 1]}, "encoder: here.json: cannot reshape"),
            ({"size": 4, "resample": 99, "do_normalize": False}, "encoder: here.json: 99 is not a valid Resampling"),
        ],
    )
    def test_invalid_settings_are_refused(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            ImageInput.of(settings, Path("here.json"))
        assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("remove", "write", "message"),
    [
        ("model.onnx", {}, "has none of text_model.onnx"),
        ("tokenizer.json", {}, "tokenizer.json is missing"),
        ("1_Pooling/config.json", {}, "no pooling is configured: write"),
        (None, {"model.onnx": "no model"}, "onnxruntime cannot run"),
        (None, {"tokenizer.json": "{}"}, "tokenizer.json is not a valid tokenizer"),
        (None, {"config.json": "{"}, "config.json is not valid JSON"),
        (None, {"config.json": "[]"}, "config.json is not a JSON object"),
        (None, {"1_Pooling/config.json": '{"pooling_mode_weightedmean_tokens": true}'}, "must set one of"),
        (None, {"modules.json": '[{"type": "sentence_transformers.models.Dense"}]'}, "names Dense, which only"),
        (None, {"modules.json": "[1]"}, "modules.json is not a list of modules"),
    ],
)
def test_an_unusable_folder_is_refused_by_its_file(
    folder: Path, remove: str | None, write: dict[str, str], message: str
) -> None:
    if remove:
        (folder / remove).unlink()
    for name, text in write.items():
        (folder / name).write_text(text)
    with pytest.raises(InvalidArgument, match="encoder: ") as caught:
        Encoder(folder)
    assert message in caught.value.message
    assert str(folder) in caught.value.message


def test_a_combined_model_of_texts_and_images_is_refused(clip_encoder: MakeEncoder, folder: Path) -> None:
    (folder / "model.onnx").write_bytes((clip_encoder(COLORS) / "onnx" / "vision_model.onnx").read_bytes())
    with pytest.raises(InvalidArgument, match="has the inputs pixel_values; supported are input_ids"):
        Encoder(folder)


def test_images_need_an_image_model(folder: Path, make_image: MakeImage) -> None:
    encoder = Encoder(folder)
    assert not encoder.images_too
    with pytest.raises(InvalidArgument, match=r"has no vision_model\.onnx"):
        encoder.images([make_image()])
    with pytest.raises(InvalidArgument, match="is not a folder"):
        Encoder(folder / "nowhere")
