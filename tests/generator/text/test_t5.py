"""T5 as a text encoder. The comparison with transformers is in parity/."""

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sentencepiece import SentencePieceTrainer

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.config.text import T5Text
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.text.network_encoder import NetworkTextEncoder
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.text.t5 import T5, T5_XXL, T5Config
from reimagen_generator.text.t5_checkpoint import load_t5
from reimagen_generator.text.t5_encoder import load_t5_text_encoder, t5_files
from reimagen_generator.text.t5_tokenizer import T5Tokenizer
from reimagen_generator.weights.locate import find_checkpoint

WORDS = ["a", "red", "panda", "sits", "in", "the", "snow", "beside", "An", "OLD", "harbor", "where", "gulls", "cry"]
CONFIG = T5Config(
    feed_forward_proj="gated-gelu", vocab_size=120, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=3
)
LENGTH = 12


@pytest.fixture(scope="module")
def spiece() -> bytes:
    rng = np.random.default_rng(0)
    pieces = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(rng.choice(WORDS, 9)) for _ in range(300)]),
        model_writer=pieces,
        vocab_size=CONFIG.vocab_size,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return pieces.getvalue()


def tensors(config: T5Config, dtype: Any = np.float32) -> dict[str, np.ndarray[Any, Any]]:
    """Write a checkpoint with transformers' names."""
    inner = config.num_heads * config.d_kv
    shapes = {
        "shared.weight": (config.vocab_size, config.d_model),
        "encoder.final_layer_norm.weight": (config.d_model,),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (
            config.relative_attention_num_buckets,
            config.num_heads,
        ),
    }
    for block in range(config.num_layers):
        layer = f"encoder.block.{block}.layer"
        shapes |= {f"{layer}.0.SelfAttention.{name}.weight": (inner, config.d_model) for name in "qkv"}
        shapes |= {f"{layer}.0.SelfAttention.o.weight": (config.d_model, inner)}
        shapes |= {f"{layer}.1.DenseReluDense.wi_{i}.weight": (config.d_ff, config.d_model) for i in (0, 1)}
        shapes |= {f"{layer}.1.DenseReluDense.wo.weight": (config.d_model, config.d_ff)}
        shapes |= {f"{layer}.{i}.layer_norm.weight": (config.d_model,) for i in (0, 1)}
    rng = np.random.default_rng(0)
    return {name: (rng.standard_normal(shape, np.float32) * 0.3).astype(dtype) for name, shape in shapes.items()}


def write_model(
    folder: Path, config: T5Config = CONFIG, changes: Mapping[str, np.ndarray[Any, Any] | None] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config.model_dump_json())
    stored = {name: tensor for name, tensor in (tensors(config) | dict(changes or {})).items() if tensor is not None}
    save_file(stored, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, spiece: bytes) -> Path:
    folder = write_model(tmp_path_factory.mktemp("t5"))
    (folder / "spiece.model").write_bytes(spiece)
    return folder


@pytest.fixture(scope="module")
def encoder(model: Path) -> NetworkTextEncoder:
    return load_t5_text_encoder(t5_files(model), LENGTH)


def test_xxl_has_the_published_size() -> None:
    network = nnx.eval_shape(lambda: T5(T5_XXL, jnp.bfloat16, nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
    assert count == 4_762_310_656  # the encoder's half of t5-v1_1-xxl


def test_truncation_and_padding_change_no_earlier_token(encoder: NetworkTextEncoder, model: Path) -> None:
    longer = load_t5_text_encoder(t5_files(model), LENGTH + 5)
    short, padded = encoder.encode(["a red panda"]), longer.encode(["a red panda"])
    places = int(short.mask.sum())
    assert places == int(padded.mask.sum()) < LENGTH
    np.testing.assert_allclose(short.tokens[:, :places], padded.tokens[:, :places], rtol=1e-5, atol=1e-5)


def test_the_embedding_of_a_text_does_not_depend_on_the_batch(encoder: NetworkTextEncoder) -> None:
    texts = [" ".join(WORDS[i : i + 4]) for i in range(11)]
    together = encoder.encode(texts)
    alone = [NetworkTextEncoder.encode(encoder, [text]) for text in reversed(texts)]
    np.testing.assert_allclose(together.tokens, np.concatenate([e.tokens for e in reversed(alone)]), rtol=1e-5)
    assert together.tokens.dtype == np.float32
    assert isinstance(together.tokens, jax.Array)  # on the device, and stays there


def test_an_empty_text_is_only_the_end_token(encoder: NetworkTextEncoder) -> None:
    embedding = encoder.encode(["", "a boat"])
    assert np.asarray(embedding.mask[0]).tolist() == [True] + [False] * (LENGTH - 1)
    assert np.isfinite(embedding.tokens).all()
    assert encoder.encode([]).tokens.shape == (0, LENGTH, CONFIG.d_model)


class _Counting(T5Tokenizer):
    """A text encoder that records the texts it encodes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, LENGTH)
        self.seen: list[str] = []

    def __call__(self, texts: Any) -> Any:
        self.seen += texts
        return super().__call__(texts)


def test_a_repeated_text_comes_from_the_cache(model: Path) -> None:
    tokenizer = _Counting(model / "spiece.model")
    encoder = NetworkTextEncoder(load_t5(model, jnp.float32), CONFIG.d_model, tokenizer, remembered=2)
    first = encoder.encode(["snow", "nets", "snow"])
    assert tokenizer.seen == ["snow", "nets"]
    np.testing.assert_array_equal(encoder.encode(["snow"]).tokens[0], first.tokens[2])
    assert tokenizer.seen == ["snow", "nets"]
    encoder.encode(["gulls", "snow"])  # "nets" is the one not used for longest
    assert tokenizer.seen == ["snow", "nets", "gulls"]
    encoder.encode(["nets"])
    assert tokenizer.seen == ["snow", "nets", "gulls", "nets"]


def test_more_texts_than_the_cache_holds_are_encoded(model: Path) -> None:
    tokenizer = T5Tokenizer(model / "spiece.model", LENGTH)
    encoder = NetworkTextEncoder(load_t5(model, jnp.float32), CONFIG.d_model, tokenizer, remembered=2)
    assert encoder.encode(WORDS).tokens.shape == (len(WORDS), LENGTH, CONFIG.d_model)


@settings(deadline=None, max_examples=30)
@given(text=st.text(max_size=60), length=st.integers(2, 40))
def test_any_text_ends_and_is_padded(model: Path, text: str, length: int) -> None:
    [ids], [mask] = T5Tokenizer(model / "spiece.model", length)([text])
    count = int(mask.sum())
    assert ids.shape == mask.shape == (length,)
    assert mask[:count].all()
    assert ids[count - 1] == 1
    assert (ids[:count] != 0).all()
    assert (ids[count:] == 0).all()


def test_case_is_kept_and_special_tokens_in_a_text_are_plain_text(model: Path) -> None:
    ids, mask = T5Tokenizer(model / "spiece.model", LENGTH)(["OLD", "old", "</s>"])
    assert (ids[0] != ids[1]).any()
    assert mask[2].sum() > 2


def embed(network: T5, ids: Any, mask: Any) -> np.ndarray[Any, Any]:
    return np.asarray(_embed(network, jnp.asarray(ids), jnp.asarray(mask)))


@nnx.jit
def _embed(network: T5, ids: jax.Array, mask: jax.Array) -> jax.Array:
    return network(ids, mask)


def test_a_row_without_tokens_is_finite_and_changes_no_other_row(model: Path) -> None:
    ids = np.array([[5, 6, 7, 1]] * 2)
    network = load_t5(model, jnp.float32)
    some = embed(network, ids, [[True] * 4, [False] * 4])
    assert np.isfinite(some).all()
    np.testing.assert_allclose(some[0], embed(network, ids, np.ones((2, 4), bool))[0], rtol=1e-5, atol=1e-6)


def types(network: T5) -> set[Any]:
    return {leaf.dtype for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))}


def test_weights_of_any_type_are_converted_to_the_requested_type(tmp_path: Path) -> None:
    ids, mask = np.array([[5, 6, 7, 1]] * 2), np.ones((2, 4), bool)
    network = load_t5(write_model(tmp_path / "exact"), jnp.float32)
    exact = embed(network, ids, mask)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        half = load_t5(write_model(tmp_path / np.dtype(dtype).name, changes=tensors(CONFIG, dtype)), jnp.float32)
        assert types(half) == types(network) == {np.dtype(np.float32)}
        assert np.abs(embed(half, ids, mask) - exact).max() < 0.05 * np.abs(exact).max()
    running = load_t5(tmp_path / "exact", jnp.bfloat16)
    assert types(running) == {np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)}  # the norms and distances stay exact
    embedded = embed(running, ids, mask)
    assert embedded.dtype == np.float32
    assert np.abs(embedded - exact).max() < 0.05 * np.abs(exact).max()


def test_a_whole_model_and_both_names_of_the_embedding_are_read(tmp_path: Path) -> None:
    plain = load_t5(write_model(tmp_path / "plain"), jnp.float32)
    shared = tensors(CONFIG)["shared.weight"]
    extra = {"decoder.block.0.layer.0.SelfAttention.q.weight": shared, "lm_head.weight": shared}
    layouts: list[dict[str, np.ndarray[Any, Any] | None]] = [
        {**extra, "encoder.embed_tokens.weight": shared},
        {"encoder.embed_tokens.weight": shared, "shared.weight": None},
    ]
    for index, changes in enumerate(layouts):
        other = load_t5(write_model(tmp_path / str(index), changes=changes), jnp.float32)
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), nnx.state(plain), nnx.state(other)))


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"encoder.final_layer_norm.weight": None}, r"lacks tensor encoder\.final_layer_norm\.weight"),
        ({"shared.weight": None}, r"lacks tensor encoder\.embed_tokens\.weight"),
        ({"encoder.block.2.layer.0.layer_norm.weight": np.zeros(16, np.float32)}, r"unknown tensor encoder\.block\.2"),
        ({"encoder.block.1.layer.1.DenseReluDense.wo.weight": np.zeros((24, 16), np.float32)}, r"1.*\(24, 16\)"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        load_t5(write_model(tmp_path, changes=changes), jnp.float32)


@pytest.mark.parametrize("change", [{"feed_forward_proj": "relu"}, {"model_type": "umt5"}, {"d_model": None}])
def test_another_kind_of_model_is_refused_by_field(tmp_path: Path, change: dict[str, Any]) -> None:
    write_model(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ValueError, match=next(iter(change))):
        load_t5(tmp_path, jnp.float32)


def test_an_invalid_sentencepiece_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"not pieces")
    with pytest.raises(ValueError, match=r"text_encoder: cannot read .*spiece\.model"):
        T5Tokenizer(tmp_path / "spiece.model", 8)


def test_the_most_precise_variant_of_the_weights_is_used(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model\.safetensors and no model\.safetensors\.index\.json"):
        find_checkpoint(tmp_path, "model")
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ValueError, match="can run code"):
        find_checkpoint(tmp_path, "model")
    for name in ("model.fp16.safetensors", "model.safetensors.index.bf16.json", "model.safetensors.index.json"):
        (tmp_path / name).touch()
        assert find_checkpoint(tmp_path, "model").name == name


def cascade_config(**changes: Any) -> CascadeConfig:
    """Return the tiny cascade's first stage with T5."""
    stage = TINY.stages[0]
    network = stage.network.model_copy(update={"text_channels": CONFIG.d_model})
    return TINY.model_copy(
        update={"stages": (stage.model_copy(update={"network": network}),), "text_encoder": T5Text(length=LENGTH)}
        | changes
    )


def test_a_cascade_finds_t5_in_its_folder_or_a_named_one(tmp_path: Path, model: Path, spiece: bytes) -> None:
    config = CascadeConfig.model_validate_json(cascade_config().model_dump_json())
    cascade = Cascade.random(config, seed=0, text_encoder=model)
    folder = tmp_path / "cascade"
    cascade.save(folder)
    assert str(model) not in (folder / "cascade.json").read_text()
    with pytest.raises(ValueError, match="there is no T5"):
        Cascade.load(folder)
    Cascade.load(folder, text_encoder=model)
    write_model(folder / "text_encoder")
    with pytest.raises(ValueError, match=r"no spiece\.model"):
        Cascade.load(folder)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "spiece.model").write_bytes(spiece)
    Cascade.load(folder)


def test_an_encoder_of_another_width_is_refused(model: Path) -> None:
    with pytest.raises(ValueError, match="gives 16 channels, but stage 16 of tiny expects text_channels of 256"):
        load_text_encoder(TINY.model_copy(update={"text_encoder": T5Text()}), model)
    with pytest.raises(ValueError, match="gives 256 channels"):
        load_text_encoder(cascade_config(text_encoder="hashed-ngrams"), None)
    with pytest.raises(ValueError, match="to the folder of its files"):
        load_text_encoder(cascade_config(), None)


_MEASURE = """
import sys
from pathlib import Path
import jax.numpy as jnp
from reimagen_generator.text.t5_checkpoint import load_t5
def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
load_t5(Path(sys.argv[1]), jnp.float32)  # what JAX itself needs
before = memory("VmRSS")
network = load_t5(Path(sys.argv[2]), jnp.float32)
print(memory("VmHWM") - before)
"""


def test_loading_needs_at_most_one_shard_of_additional_memory(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"d_model": 512, "d_kv": 64, "num_heads": 8, "d_ff": 2048, "num_layers": 8})
    stored = tensors(config)
    names = sorted(stored)
    shards = {f"model-{i}.safetensors": names[i::4] for i in range(4)}
    large = write_model(tmp_path / "large", config)
    (large / "model.safetensors").unlink()
    for file, held in shards.items():
        save_file({name: stored[name] for name in held}, large / file)
    places = {name: file for file, held in shards.items() for name in held}
    (large / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    result = sum(tensor.nbytes for tensor in stored.values())
    largest = max(sum(stored[name].nbytes for name in held) for held in shards.values())
    assert result > 120_000_000
    arguments = [sys.executable, "-c", _MEASURE, str(write_model(tmp_path / "small")), str(large)]
    measured = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert result <= int(measured.stdout) < result + 1.3 * largest
