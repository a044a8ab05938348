"""Training of the tiny cascade's first stage for a few steps."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from reimagen_generator.networks.network import Network
from reimagen_generator.training import trainer
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.data import ShardSource
from reimagen_generator.training.loss import Batch, Draws
from reimagen_generator.training.trainer import Trainer, TrainingState

STEPS = 100
FILE = "stage-16.safetensors"


def config(data: Path, output: Path, **changed: Any) -> TrainingConfig:
    values = {"preset": "tiny", "stage": 0, "data": data, "output": output, "weights": output / "weights"}
    values |= {"steps": STEPS, "warmup_steps": 1, "batch_size": 2, "draws": 2, "sheet_minutes": 0}
    return TrainingConfig.model_validate(values | changed)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the weights of an uninterrupted run."""
    run = config(data, tmp_path_factory.mktemp("whole"))
    Trainer(run).run()
    return (run.weights / FILE).read_bytes()


def test_samples_are_read_with_their_neighbors_in_order(data: Path) -> None:
    source = ShardSource(data)
    assert len(source) == 7
    sample = source[5]  # number 2 of the second shard
    assert sample.caption == "a kea number 2"
    assert sample.image[3, 4].tolist() == [2, 100, 200]
    assert [one.caption for one in sample.neighbors] == ["a kea", "another kea"]
    assert [one.image[0, 0].tolist() for one in sample.neighbors] == [[2, 0, 0], [0, 2, 0]]


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data: no shard"):
        ShardSource(tmp_path)


def test_a_warm_up_longer_than_the_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="warmup_steps: must be less than steps"):
        config(tmp_path, tmp_path, steps=1)


@pytest.mark.parametrize("field", ["crop", "resolution"])
@pytest.mark.parametrize("side", [3, 0, 32])
def test_an_image_side_unfit_for_the_network_is_refused(data: Path, tmp_path: Path, field: str, side: int) -> None:
    with pytest.raises(ValueError, match=f"^{field}: must be a multiple of 4, at most 16, got {side}"):
        Trainer(config(data, tmp_path, **{field: side}))


def test_a_loss_of_x0_for_a_network_that_predicts_v_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^x0_loss: must be weighted-squares, since the stage predicts v and not x0"):
        Trainer(config(data, tmp_path, x0_loss="charbonnier"))


def test_a_stopped_run_resumes_bit_for_bit(
    data: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = config(data, tmp_path)
    step = Trainer._step

    def interrupting(self: Trainer, state: TrainingState, *arguments: Any) -> Any:
        if int(state.step) == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, state, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", interrupting)
        interrupted = Trainer(stopped)
        interrupted.run()
    assert int(interrupted.state.step) == 3
    resumed = Trainer(stopped)
    resumed.run()
    assert int(resumed.state.step) == STEPS
    assert (stopped.weights / FILE).read_bytes() == whole


def checkpoints(output: Path) -> list[int]:
    """Return the steps of complete checkpoints; a partial one has another name."""
    return [int(path.name) for path in (output / "checkpoints").glob("*") if path.name.isdigit()]


def learn(monkeypatch: pytest.MonkeyPatch, loss_of: Callable[[jax.Array], jax.Array]) -> None:
    """Replace the loss, which takes long to compile, by a function of all weights."""

    def loss(network: Network, stage: object, factor: object, batch: Batch, draws: Draws, _: object) -> jax.Array:
        weights = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))])
        return jnp.full_like(draws.time, loss_of(weights))

    monkeypatch.setattr(trainer, "loss_by_row", loss)


def test_a_run_begins_from_initial_weights(
    data: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(monkeypatch, lambda weights: 0.0 * weights.sum())
    (tmp_path / FILE).write_bytes(whole)
    begun = config(data, tmp_path / "begun", initial=tmp_path, steps=2)
    Trainer(begun).run()
    assert (begun.weights / FILE).read_bytes() == whole


def test_an_overflowing_step_is_named_and_not_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step has a learning rate of 0; the second makes weights so large that the third overflows."""
    learn(monkeypatch, lambda weights: (weights**2).sum())
    broken = config(data, tmp_path, learning_rate=1e30, checkpoint_minutes=1e-6)
    with pytest.raises(FloatingPointError, match=r"^step 3: the loss .*0000000\d; .* the last checkpoint is of step 2"):
        Trainer(broken).run()
    assert max(checkpoints(tmp_path)) == 2
    assert not broken.weights.exists()


def test_a_non_finite_gradient_is_named_even_if_the_loss_is_finite(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(monkeypatch, lambda weights: jnp.sqrt(0.0 * weights.sum()))
    with pytest.raises(FloatingPointError, match=r"^step 1: the gradient is not finite, .* there is no checkpoint yet"):
        Trainer(config(data, tmp_path)).run()
    assert checkpoints(tmp_path) == []
