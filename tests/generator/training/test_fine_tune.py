"""Fine-tuning: initial weights, trained parts, optimizers, and stored texts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh
from pydantic import ValidationError
from safetensors.numpy import load_file

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.config.text import T5Text
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.networks.network import Text
from reimagen_generator.networks.registry import build_network
from reimagen_generator.parallel.mesh import AXES
from reimagen_generator.parallel.sharding import parameter_shardings
from reimagen_generator.text.encoder import TextEmbedding
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from reimagen_generator.training import texts
from reimagen_generator.training.config import OptimizerKind, TrainingConfig
from reimagen_generator.training.data import ShardSource
from reimagen_generator.training.loss import Batch, Draws, loss_and_gradient
from reimagen_generator.training.optimizer import build_optimizer
from reimagen_generator.training.trainer import Trainer
from reimagen_generator.weights import checkpoint

FILE = "stage-16.safetensors"


def config(**changed: Any) -> TrainingConfig:
    values = {"preset": "tiny", "stage": 0, "data": ".", "output": "output", "weights": "weights"}
    values |= {"steps": 4, "warmup_steps": 1, "batch_size": 2, "sheet_minutes": 0}
    return TrainingConfig.model_validate(values | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cascade": "folder"}, "cascade: exactly one of preset and cascade"),
        ({"preset": None}, "cascade: exactly one of preset and cascade"),
        ({"preset": None, "cascade": "folder", "initial": "other"}, "initial: must not be set with cascade"),
        ({"preset": None, "cascade": "weights"}, "weights: must be another folder than cascade"),
        ({"accumulation": 3}, "accumulation: must divide batch_size, 2"),
        ({"accumulation": 2, "distractors": 0.1}, "distractors: must be 0"),
    ],
)
def test_incompatible_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changed)


def test_accumulated_parts_have_the_gradient_of_the_whole() -> None:
    """Return a loss in which every row depends on the other rows of its image."""
    images, k, draws_each = 6, 2, 2
    rng = np.random.default_rng(0)

    def text(rows: int) -> Text:
        return Text(jnp.asarray(rng.standard_normal((rows, 3, 2))), jnp.ones((rows, 3), bool))

    def rows(count: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal((count, 2, 2, 3)))

    image = rng.integers(0, 256, (images, 2, 2, 3), np.uint8)
    near = rng.integers(0, 256, (images, k, 2, 2, 3), np.uint8)
    mask = jnp.asarray(rng.random((images, k)) < 0.5)
    batch = Batch(jnp.asarray(image), text(images), jnp.asarray(near), text(images * k), mask, text(images))
    total = images * draws_each
    level = jnp.asarray(rng.random(total))
    draws = Draws(level, rows(total), level, rows(total), jnp.ones(total, bool), jnp.ones((total, k), bool))

    def loss_of(p: jax.Array, batch: Batch, draws: Draws) -> tuple[jax.Array, jax.Array]:
        def each(rows: jax.Array) -> jax.Array:
            return rows.reshape(batch.image.shape[0], -1).mean(axis=1)

        own = each(batch.image / 255) * each(batch.neighbor_text.tokens) * each(batch.neighbor_mask)
        of_images = p[0] * own + p[1] * each(draws.noise) * each(batch.text.tokens)
        losses = (jnp.repeat(of_images, draws_each) - p[2] * draws.time) ** 2
        return losses.mean(), losses

    parameters = jnp.asarray([0.3, -1.2, 0.7])
    losses, gradient = loss_and_gradient(loss_of, parameters, batch, draws, 1)
    assert losses.shape == (total,)
    for parts in (2, 3, 6):
        in_parts = loss_and_gradient(loss_of, parameters, batch, draws, parts)
        np.testing.assert_allclose(in_parts[0], losses, rtol=1e-5)
        np.testing.assert_allclose(in_parts[1], gradient, rtol=1e-5)


@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_parameters_that_start_as_zero_move_at_the_learning_rate(kind: OptimizerKind) -> None:
    rate = 1e-2
    optimizer = build_optimizer(config(optimizer=kind, learning_rate=rate, gradient_clip=1e9))
    parameters = {"kernel": jnp.zeros((256, 256))}
    state = optimizer.init(parameters)
    gradient = {"kernel": jnp.asarray(np.random.default_rng(0).standard_normal((256, 256)), jnp.float32)}
    for _ in range(2):  # the warm-up begins at a rate of 0
        update, state = optimizer.update(gradient, state, parameters)
    assert float(jnp.sqrt((update["kernel"] ** 2).mean())) == pytest.approx(rate, rel=0.1)


def test_adafactors_state_is_small() -> None:
    parameters = {"kernel": jnp.zeros((3, 3, 256, 512))}
    state = build_optimizer(config(optimizer=OptimizerKind.ADAFACTOR)).init(parameters)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 0.01 * 3 * 3 * 256 * 512


def test_adafactors_state_is_sharded() -> None:
    """Return rows and columns of matrices, by the names of the matrices."""
    shapes = {"qkv": {"kernel": (256, 512)}, "conv_in": {"kernel": (3, 3, 128, 256)}, "norm": {"scale": (256,)}}
    parameters = jax.tree.map(jnp.zeros, shapes, is_leaf=lambda shape: isinstance(shape, tuple))
    state = build_optimizer(config(optimizer=OptimizerKind.ADAFACTOR)).init(parameters)
    shardings = parameter_shardings(state, AbstractMesh((2, 2, 2), AXES))  # type: ignore[arg-type]
    for leaf, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
        assert len(sharding.shard_shape(leaf.shape)) == leaf.ndim


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cascade")
    cascade = Cascade.random(TINY, 3)
    cascade.save(folder)
    # Parameters that start as zero are random, as after training.
    network, random = cascade.networks[0], np.random.default_rng(0)
    state = nnx.state(network, nnx.Param)
    nnx.update(network, jax.tree.map(lambda leaf: leaf + 0.1 * random.standard_normal(leaf.shape), state))
    checkpoint.save_network(network, folder / FILE)
    return folder


def test_a_run_trains_the_named_parts_and_writes_a_whole_cascade(data: Path, folder: Path, tmp_path: Path) -> None:
    run = config(
        preset=None,
        cascade=folder,
        data=data,
        output=tmp_path / "run",
        weights=tmp_path / "trained",
        trained=["neighbor_attention"],
        optimizer="adafactor",
        accumulation=2,
    )
    Trainer(run).run()
    before, after = load_file(folder / FILE), load_file(run.weights / FILE)
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert {name.split(".")[0] for name in changed} == {"neighbor_attention"}
    for size in (32, 64):
        file = checkpoint.stage_file(size)
        assert (run.weights / file).read_bytes() == (folder / file).read_bytes()
    assert Cascade.load(run.weights).config == TINY


def test_an_unknown_part_is_refused(data: Path, folder: Path, tmp_path: Path) -> None:
    run = config(preset=None, cascade=folder, data=data, output=tmp_path, trained=["neighbors"])
    with pytest.raises(ValueError, match="trained: the network has none of the parts neighbors"):
        Trainer(run)


def test_weights_replace_those_in_several_files(tmp_path: Path) -> None:
    network = build_network(TINY.stages[0].network, nnx.Rngs(0))
    path = tmp_path / FILE
    stale = [tmp_path / name for name in ("stage-16-00001-of-00002.safetensors", f"{FILE}.index.json")]
    for file in stale:
        file.write_text("{}")
    checkpoint.save_network(network, path)
    assert sorted(tmp_path.iterdir()) == [path]
    checkpoint.load_network(path, TINY.stages[0].network)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    network = build_network(TINY.stages[0].network, nnx.Rngs(0))
    state = nnx.state(network, nnx.Param)
    nnx.update(network, jax.tree.map(lambda leaf: jnp.full_like(leaf, 1e6), state))
    with pytest.raises(ValueError, match="numbers that float16 cannot hold"):
        checkpoint.save_network(network, tmp_path / FILE)
    assert list(tmp_path.iterdir()) == []


class Counting(HashedNgramEncoder):
    """A text encoder that counts its texts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        self.asked += texts
        return super().encode(texts)


def t5_folder(folder: Path) -> Path:
    """Return files of which only the configuration is read."""
    sizes = {"vocab_size": 9, "d_model": 256, "d_kv": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(sizes | {"feed_forward_proj": "gated-gelu"}))
    for name in ("model.safetensors", "spiece.model"):
        (folder / name).write_text(name)
    return folder


def test_texts_are_encoded_once_and_again_when_they_or_the_encoder_change(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Counting()
    monkeypatch.setattr(texts, "load_text_encoder", lambda *_: encoder)
    cascade = CascadeConfig.model_validate(TINY.model_dump() | {"text_encoder": T5Text(length=24)})
    t5 = t5_folder(tmp_path / "t5")
    run = config(data=data, output=tmp_path / "run", text_encoder=t5)

    def asked(folder: Path) -> list[str]:
        encoder.asked.clear()
        found = texts.training_text_encoder(cascade, run, ShardSource(folder))
        given = ["another kea", "", "a kea number 2"]
        ours, theirs = found.encode(given), HashedNgramEncoder().encode(given)
        np.testing.assert_allclose(ours.tokens, theirs.tokens, atol=2e-3)  # float16
        np.testing.assert_array_equal(ours.mask, theirs.mask)
        assert (found.channels, found.length) == (256, 24)
        return list(encoder.asked)

    everything = sorted({"", "a kea", "another kea", *(f"a kea number {n}" for n in range(4))})
    assert asked(data) == everything
    assert asked(data) == []
    (t5 / "model.safetensors").write_text("another model")
    assert asked(data) == everything
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    (fewer / "0.tar").write_bytes((data / "00000.tar").read_bytes())
    assert asked(fewer) == [text for text in everything if text != "a kea number 3"]


def test_stored_texts_are_used_if_the_encoders_files_are_missing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "load_text_encoder", lambda *_: HashedNgramEncoder())
    cascade = CascadeConfig.model_validate(TINY.model_dump() | {"text_encoder": T5Text(length=24)})
    t5 = t5_folder(tmp_path / "t5")
    run = config(data=data, output=tmp_path / "run", text_encoder=t5)
    texts.training_text_encoder(cascade, run, ShardSource(data))
    (t5 / "config.json").unlink()
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    (fewer / "0.tar").write_bytes((data / "00000.tar").read_bytes())
    found = texts.training_text_encoder(cascade, run, ShardSource(fewer))
    wanted = HashedNgramEncoder().encode(["a kea number 1", ""])
    np.testing.assert_allclose(found.encode(["a kea number 1", ""]).tokens, wanted.tokens, atol=2e-3)

    longer = cascade.model_copy(update={"text_encoder": T5Text(length=25)})
    with pytest.raises(ValueError, match="there is no T5"):  # stored by another configuration
        texts.training_text_encoder(longer, run, ShardSource(fewer))
    index = run.output / "texts" / "texts.json"
    index.write_text(index.read_text().replace("a kea number 1", "another"))
    with pytest.raises(ValueError, match="there is no T5"):  # a text is missing
        texts.training_text_encoder(cascade, run, ShardSource(fewer))
