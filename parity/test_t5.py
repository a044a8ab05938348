"""T5 v1.1: our encoder and tokenizer compared with those of transformers, from folders that transformers wrote."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jaxtyping import Float
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration, T5Tokenizer
from transformers.models.t5.modeling_t5 import T5Attention

from parity.compare import relative_error
from parity.pieces import train_pieces
from reimagen_generator.text import t5_tokenizer
from reimagen_generator.text.t5 import relative_position_buckets
from reimagen_generator.text.t5_checkpoint import load_t5

ROOT = Path(__file__).resolve().parents[1]

# d_kv never equals d_model / num_heads; distances exceed the last bucket.
TWO_LAYERS = {"d_model": 48, "d_kv": 8, "d_ff": 80, "num_layers": 2, "num_heads": 4}
THREE_LAYERS = {"d_model": 32, "d_kv": 16, "d_ff": 40, "num_layers": 3, "num_heads": 3, "layer_norm_epsilon": 1e-5}
THREE_LAYERS |= {"relative_attention_num_buckets": 16, "relative_attention_max_distance": 20}
LENGTHS = (31, 1, 17, 8)


def reference_model(kind: type[Any], sizes: dict[str, Any]) -> Any:
    """Return a model with random weights of a scale at which activations, logits and biases matter."""
    torch.manual_seed(0)
    config = T5Config(vocab_size=100, feed_forward_proj="gated-gelu", tie_word_embeddings=False, **sizes)
    model = kind(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1.0 if "layer_norm" in name or "bias" in name else parameter.shape[-1] ** -0.5
            parameter.normal_(std=scale).add_(1.0 if "layer_norm" in name else 0.0)
    return model


def tokens() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    mask = np.arange(max(LENGTHS))[None] < np.array(LENGTHS)[:, None]
    return np.where(mask, np.random.default_rng(0).integers(1, 100, mask.shape), 0), mask


def both(folder: Path, model: Any) -> tuple[Float[np.ndarray, "tokens channels"], Float[np.ndarray, "tokens channels"]]:
    ids, mask = tokens()
    with torch.no_grad():
        theirs = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state.numpy()
    ours = np.asarray(load_t5(folder, jnp.float32)(jnp.asarray(ids), jnp.asarray(mask)))
    # IF's networks also see the padding, so it is compared too.
    return ours, theirs


@pytest.mark.parametrize("sizes", [TWO_LAYERS, THREE_LAYERS], ids=["two layers", "three layers"])
@pytest.mark.parametrize("sharded", [False, True], ids=["single", "sharded"])
def test_the_encoder_equals_transformers(tmp_path: Path, sizes: dict[str, Any], sharded: bool) -> None:
    model = reference_model(T5EncoderModel, sizes)
    model.save_pretrained(tmp_path, max_shard_size="30KB" if sharded else "1GB")
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) is sharded
    assert relative_error(*both(tmp_path, model)) <= 1e-4


def test_the_encoder_of_a_whole_model_equals_transformers(tmp_path: Path) -> None:
    model = reference_model(T5ForConditionalGeneration, TWO_LAYERS)
    model.save_pretrained(tmp_path)
    assert relative_error(*both(tmp_path, model.encoder)) <= 1e-4


@pytest.mark.parametrize(("buckets", "maximum"), [(32, 128), (16, 20), (8, 100)])
def test_relative_position_buckets_equal_transformers(buckets: int, maximum: int) -> None:
    position = torch.arange(300)
    theirs = T5Attention._relative_position_bucket(position[None] - position[:, None], True, buckets, maximum)
    np.testing.assert_array_equal(relative_position_buckets(300, buckets, maximum), theirs.numpy())


TEXTS = [
    "a red panda in the snow",
    "A Red PANDA, In The Snow!",
    "  spaces   before,   between\tand \n after  ",
    "Käse für die Straße, ﬁne ½ Å",
    "a prompt that is much longer than the length that the tokenizer accepts, so that it is truncated " * 3,
    "",
    " ",
    "日本語 and 🐼 that the pieces do not know",
    "512x512 (best) [quality] \\ / -- 'quoted' \"twice\"",
]


@pytest.fixture(scope="module")
def spiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a small SentencePiece model with T5's settings."""
    lines = [line for page in sorted(ROOT.glob("docs/**/*.md")) for line in page.read_text().splitlines() if line]
    path = tmp_path_factory.mktemp("tokenizer") / "spiece.model"
    path.write_bytes(train_pieces(lines, 800))
    return path


@pytest.mark.parametrize("length", [16, 77])
def test_the_tokens_equal_transformers(spiece: Path, length: int) -> None:
    theirs = T5Tokenizer.from_pretrained(spiece.parent)(
        TEXTS, padding="max_length", max_length=length, truncation=True, return_tensors="np"
    )
    ids, mask = t5_tokenizer.T5Tokenizer(spiece, length)(TEXTS)
    np.testing.assert_array_equal(ids, theirs["input_ids"])
    np.testing.assert_array_equal(mask, theirs["attention_mask"].astype(bool))
