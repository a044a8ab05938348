"""The training loop of one stage: steps, averaged weights, checkpoints, a log and sample sheets."""

import json
import signal
import time
from dataclasses import dataclass, replace
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
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from reimagen_generator.config.presets import PRESETS
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.networks.network import Network, parameter_count
from reimagen_generator.networks.registry import build_network
from reimagen_generator.parallel.mesh import available_mesh
from reimagen_generator.parallel.placement import constrain_parameters, place_parameters, place_rows
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.data import batches
from reimagen_generator.training.loss import Batch, mean_loss
from reimagen_generator.weights import checkpoint

Parameters = nnx.State[Any, Any]

_CHECKPOINTS_KEPT = 2
_LOG_EVERY = 50


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainingState:
    """All that training changes."""

    step: Float[Array, ""]
    parameters: Parameters
    average: Parameters
    optimizer: optax.OptState


def optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """Adam under a clipped gradient, with warm-up and a cosine down to a tenth of the peak."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.steps, 0.1 * config.learning_rate
    )
    return optax.chain(optax.clip_by_global_norm(config.gradient_clip), optax.adam(rate, b2=0.99))


class Trainer:
    """Trains one stage of a preset; a run whose output folder holds a checkpoint goes on from it."""

    def __init__(self, config: TrainingConfig) -> None:
        """Builds the network and opens the data.

        Raises:
            ValueError: the preset or stage is unknown, or there is no data.
        """
        if config.preset not in PRESETS:
            raise ValueError(f"preset: {config.preset!r} is unknown; known are {', '.join(sorted(PRESETS))}")
        cascade = self._cascade = PRESETS[config.preset]
        if config.stage >= len(cascade.stages):
            raise ValueError(f"stage: {config.preset} has stages 0 to {len(cascade.stages) - 1}, got {config.stage}")
        self.config = config
        self.stage = cascade.stages[config.stage]
        self.factor = size_factor(cascade, config.stage)
        encoder = load_text_encoder(cascade, config.text_encoder or config.initial)
        self._batches = batches(config, encoder, grid=self.factor or 1, dropped_text=cascade.dropped_text)
        self._graph, parameters = nnx.split(build_network(self.stage.network, nnx.Rngs(config.seed)))
        self._optimizer = optimizer(config)
        average = jax.tree.map(jnp.copy, parameters)  # a buffer of its own: the step donates both
        state = TrainingState(jnp.zeros((), jnp.int32), parameters, average, self._optimizer.init(parameters))
        self._mesh = available_mesh(config.mesh)
        self.state = place_parameters(state, self._mesh)
        config.output.mkdir(parents=True, exist_ok=True)
        self._checkpoints = _checkpoint_manager(config.output)

    @property
    def network(self) -> Network:
        """The network with the averaged weights."""
        return nnx.merge(self._graph, self.state.average)

    def run(self) -> None:
        """Trains up to the configured number of steps. Ctrl-C saves a checkpoint and ends.

        Raises:
            FloatingPointError: a loss or its gradient is not finite, naming the step; no checkpoint holds that step.
        """
        self._restore()
        begun, seen, saved = time.monotonic(), 0, time.monotonic()
        first = int(self.state.step)
        tqdm.write(f"{parameter_count(self.network) / 1e6:.2f}M parameters, from step {first} of {self.config.steps}")
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
                self.state, loss = self._step(self.state, batch, jax.random.fold_in(key, step))
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
        checkpoint.save_config(self._cascade, self.config.weights)
        checkpoint.save_network(self.network, self.config.weights / checkpoint.stage_file(self.stage.size))

    @partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _step(self, state: TrainingState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainingState, Float[Array, ""]]:
        def loss_of(parameters: Parameters) -> Float[Array, ""]:
            network = nnx.merge(self._graph, parameters)
            return mean_loss(network, self.config, self.stage, self.factor, batch, key)

        loss, gradient = jax.value_and_grad(loss_of)(state.parameters)
        updates, optimizer_state = self._optimizer.update(gradient, state.optimizer, state.parameters)
        parameters = optax.apply_updates(state.parameters, updates)
        # Early on, a long average would still hold the random weights.
        decay = jnp.minimum(self.config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
        average = optax.incremental_update(parameters, state.average, 1.0 - decay)
        # A gradient that is not finite spoils the weights as a loss does; told as one, both are seen in one place.
        loss = jnp.where(jnp.isfinite(optax.tree.norm(gradient)), loss, jnp.nan)
        after = TrainingState(state.step + 1, parameters, average, optimizer_state)
        return constrain_parameters(after, self._mesh), loss

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
            if self.config.initial is not None:
                self._begin_from(self.config.initial)
            return
        leaves, shape = jax.tree.flatten(self.state)
        restored = self._checkpoints.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(leaves), data=CheckpointRestore(self._batches))
        )
        self.state = jax.tree.unflatten(shape, restored["state"])

    def _begin_from(self, weights: Path) -> None:
        """Takes the stage's weights of a cascade folder, and nothing else of how they were trained."""
        network = checkpoint.load_network(weights / checkpoint.stage_file(self.stage.size), self.stage.network)
        average = nnx.state(network, nnx.Param)
        begun = replace(self.state, parameters=jax.tree.map(jnp.copy, average), average=average)
        self.state = place_parameters(begun, self._mesh)


def _checkpoint_manager(run: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=_CHECKPOINTS_KEPT)
    return ocp.CheckpointManager((run / "checkpoints").resolve(), options=options)
