"""The training loop of one stage: steps, averaged weights, checkpoints, a log and sample sheets."""

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from grain.checkpoint import CheckpointRestore, CheckpointSave
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from reimagen_generator.config.cascade import CascadeConfig, StageConfig
from reimagen_generator.config.presets import PRESETS
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.networks.network import Network, in_compute_type
from reimagen_generator.networks.registry import build_network
from reimagen_generator.parallel.hosts import gathered, leads
from reimagen_generator.parallel.mesh import available_mesh
from reimagen_generator.parallel.placement import constrain_parameters, place_parameters, place_rows, together
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.data import ShardSource, batches
from reimagen_generator.training.loss import Batch, Draws, draw, loss_and_gradient, loss_by_row
from reimagen_generator.training.optimizer import build_optimizer
from reimagen_generator.training.texts import training_text_encoder
from reimagen_generator.weights import checkpoint

Parameters = nnx.State[Any, Any]

_CHECKPOINTS_KEPT = 2
_LOG_EVERY = 50


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainingState:
    """All that training changes; of parameters, those that are trained."""

    step: Float[Array, ""]
    parameters: Parameters
    average: Parameters
    optimizer: optax.OptState


@dataclass(frozen=True)
class TrainingTask:
    """What all steps of a run have in common."""

    config: TrainingConfig
    stage: StageConfig
    factor: int | None
    graph: nnx.GraphDef[Network]
    mesh: Mesh | None


def initial_state(config: TrainingConfig, parameters: Parameters) -> TrainingState:
    """The state before the first step."""
    average = jax.tree.map(jnp.copy, parameters)  # a buffer of its own: the step donates both
    return TrainingState(jnp.zeros((), jnp.int32), parameters, average, build_optimizer(config).init(parameters))


def training_step(
    task: TrainingTask, state: TrainingState, frozen: Parameters, batch: Batch, key: Key[Array, ""]
) -> tuple[TrainingState, Float[Array, ""]]:
    """One step, and its loss, which is NaN where the gradient is not finite."""
    config = task.config

    def loss_of(parameters: Parameters, batch: Batch, draws: Draws) -> Float[Array, ""]:
        # Copied, since what is merged is only for this trace, and parts may be computed in traces of their own.
        network: Network = nnx.merge(task.graph, *together((parameters, frozen), task.mesh), copy=True)
        return loss_by_row(network, task.stage, task.factor, batch, draws).mean()

    draws = draw(key, config, batch)
    loss, gradient = loss_and_gradient(loss_of, state.parameters, batch, draws, config.accumulation)
    updates, optimizer_state = build_optimizer(config).update(gradient, state.optimizer, state.parameters)
    parameters = optax.apply_updates(state.parameters, updates)
    # Early on, a long average would still hold the random weights.
    decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    average = optax.incremental_update(parameters, state.average, 1.0 - decay)
    # A gradient that is not finite spoils the weights as a loss does; told as one, both are seen in one place.
    loss = jnp.where(jnp.isfinite(optax.tree.norm(gradient)), loss, jnp.nan)
    after = TrainingState(state.step + 1, parameters, average, optimizer_state)
    return constrain_parameters(after, task.mesh), loss


class Trainer:
    """Trains one stage of a cascade; a run whose output folder holds a checkpoint goes on from it."""

    def __init__(self, config: TrainingConfig) -> None:
        """Opens the data, encodes its texts, and takes the network.

        Raises:
            ValueError: the preset, the stage or a part to be trained is unknown, there is no data, or weights or a text
                encoder cannot be read.
        """
        cascade = self._cascade = _cascade(config)
        if config.stage >= len(cascade.stages):
            raise ValueError(f"stage: {cascade.name} has stages 0 to {len(cascade.stages) - 1}, got {config.stage}")
        self.config = config
        self.stage = cascade.stages[config.stage]
        self.factor = size_factor(cascade, config.stage)
        config.output.mkdir(parents=True, exist_ok=True)
        source = ShardSource(config.data)
        encoder = training_text_encoder(cascade, config, source)
        self._batches = batches(source, config, encoder, grid=self.factor or 1, dropped_text=cascade.dropped_text)
        self._mesh = available_mesh(config.mesh)
        network, is_trained = self._beginning(), _is_trained(config.trained)
        self._graph = nnx.graphdef(network)
        parameters, frozen = (nnx.state(network, which) for which in (is_trained, nnx.Not(is_trained)))
        if not jax.tree.leaves(parameters):
            raise ValueError(f"trained: the network has none of the parts {', '.join(config.trained)}")
        # What is not trained is held as for drawing, which is half for bfloat16.
        self._frozen = place_parameters(in_compute_type(frozen, self.stage.network.dtype), self._mesh)
        parameters = place_parameters(parameters, self._mesh)
        self.state = place_parameters(initial_state(config, parameters), self._mesh)
        self._task = TrainingTask(config, self.stage, self.factor, self._graph, self._mesh)
        self._checkpoints = _checkpoint_manager(config.output)

    def _beginning(self) -> Network:
        """The network with the weights that the run begins from, which are all that it takes of how they came to be."""
        folder = self.config.beginning
        if folder is None:
            return build_network(self.stage.network, nnx.Rngs(self.config.seed))
        return checkpoint.load_network(folder / checkpoint.stage_file(self.stage.size), self.stage.network)

    def result(self) -> Network:
        """The network with the averaged weights; what is not trained is exactly what the run began from."""
        network = self._beginning()
        nnx.update(network, gathered(self.state.average))
        return network

    def run(self) -> None:
        """Trains up to the configured number of steps. Ctrl-C saves a checkpoint and ends.

        Raises:
            FloatingPointError: a loss or its gradient is not finite, naming the step; no checkpoint holds that step.
        """
        self._restore()
        begun, seen, saved = time.monotonic(), 0, time.monotonic()
        first = int(self.state.step)
        parts = self.state.parameters, self._frozen
        trained, frozen = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in parts)
        told = f"{(trained + frozen) / 1e6:.2f}M parameters, {trained / 1e6:.2f}M of them trained"
        tqdm.write(f"{told}, from step {first} of {self.config.steps}")
        bar: tqdm[NoReturn] = tqdm(total=self.config.steps, initial=first, unit="step", smoothing=0.05)
        losses: list[Float[Array, ""]] = []  # of the steps since the last line of the log
        key = jax.random.key(self.config.seed)
        # Stopping between steps: a step that is cut off would leave the data a batch ahead of the weights.
        stopping: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _: stopping.append(number))
        try:
            for step in range(first, self.config.steps):
                if stopping:
                    tqdm.write("stopped; the same command goes on from here")
                    break
                batch = place_rows(next(self._batches), self._mesh)
                self.state, loss = self._step(self.state, self._frozen, batch, jax.random.fold_in(key, step))
                losses.append(loss)
                seen += self.config.batch_size * self.config.draws
                bar.update()
                if (step + 1) % _LOG_EVERY == 0:
                    self._log(step + 1, float(self._finite(losses).mean()), seen / (time.monotonic() - begun), bar)
                    losses.clear()
                if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                    self._save(losses)
                    saved = time.monotonic()
        finally:
            signal.signal(signal.SIGINT, before)
        self._save(losses)
        self._checkpoints.wait_until_finished()
        bar.close()
        result = self.result()
        if not leads():
            return
        checkpoint.save_config(self._cascade, self.config.weights)
        checkpoint.save_network(result, self.config.weights / checkpoint.stage_file(self.stage.size))
        if self.config.cascade is not None:
            checkpoint.copy_missing_stages(self._cascade, self.config.cascade, self.config.weights)

    @partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _step(
        self, state: TrainingState, frozen: Parameters, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainingState, Float[Array, ""]]:
        return training_step(self._task, state, frozen, batch, key)

    def _finite(self, losses: list[Float[Array, ""]]) -> Float[np.ndarray, " steps"]:
        """The losses of the last steps.

        Raises:
            FloatingPointError: one of them is not finite.
        """
        values = np.array(jax.device_get(losses))
        spoilt = np.flatnonzero(~np.isfinite(values))
        if spoilt.size:
            step = int(self.state.step) - len(values) + int(spoilt[0]) + 1
            self._checkpoints.wait_until_finished()
            kept = self._checkpoints.latest_step()
            raise FloatingPointError(
                f"step {step}: the loss or its gradient is not finite; "
                f"{'there is no checkpoint yet' if kept is None else f'the last checkpoint is of step {kept}'}. "
                "Try a lower learning_rate"
            )
        return values

    def _log(self, step: int, loss: float, rate: float, bar: "tqdm[NoReturn]") -> None:
        bar.set_postfix(loss=f"{loss:.4f}", rows_per_second=f"{rate:.1f}")
        if not leads():
            return
        with (self.config.output / "log.jsonl").open("a") as log:
            log.write(json.dumps({"step": step, "loss": loss, "rows_per_second": rate, "time": time.time()}) + "\n")

    def _save(self, unchecked: list[Float[Array, ""]]) -> None:
        self._finite(unchecked)
        self._checkpoints.save(
            int(self.state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(jax.tree.leaves(self.state)), data=CheckpointSave(self._batches)
            ),
        )

    def _restore(self) -> None:
        step = self._checkpoints.latest_step()
        if step is None:
            return
        held, shape = jax.tree.flatten(self.state)
        leaves = [ocp.utils.to_shape_dtype_struct(leaf) for leaf in held]
        for leaf in held:
            leaf.delete()  # there need not be room for both
        restored = self._checkpoints.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(leaves), data=CheckpointRestore(self._batches))
        )
        self.state = jax.tree.unflatten(shape, restored["state"])


def _cascade(config: TrainingConfig) -> CascadeConfig:
    if config.cascade is not None:
        return checkpoint.load_config(config.cascade)
    if config.preset not in PRESETS:
        raise ValueError(f"preset: {config.preset!r} is unknown; known are {', '.join(sorted(PRESETS))}")
    return PRESETS[config.preset]


def _is_trained(parts: tuple[str, ...]) -> Callable[[tuple[Any, ...], Any], bool]:
    """Whether a parameter is in one of the parts, of which none stand for all."""

    def is_trained(path: tuple[Any, ...], _: Any) -> bool:
        name = ".".join(map(str, path)) + "."
        return not parts or any(name.startswith(f"{part}.") for part in parts)

    return is_trained


def _checkpoint_manager(run: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=_CHECKPOINTS_KEPT)
    return ocp.CheckpointManager((run / "checkpoints").resolve(), options=options)
