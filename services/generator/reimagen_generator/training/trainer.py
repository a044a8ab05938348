"""The training loop of one stage: steps, averaged weights, checkpoints and sample sheets."""

import signal
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from grain.checkpoint import CheckpointRestore, CheckpointSave
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Key
from PIL import Image
from tqdm import tqdm

from reimagen_generator.config.cascade import StageConfig
from reimagen_generator.diffusion.cascade import size_factor
from reimagen_generator.networks.network import Network, in_compute_type
from reimagen_generator.networks.placement_network import PlacementNetwork
from reimagen_generator.parallel.hosts import all_gather, is_primary
from reimagen_generator.parallel.mesh import available_mesh
from reimagen_generator.parallel.rules import spec
from reimagen_generator.parallel.sharding import constrain_parameters, place_parameters, place_rows, unshard
from reimagen_generator.training.config import PLACEMENT, TrainingConfig
from reimagen_generator.training.data import ShardSource
from reimagen_generator.training.loader import GoodSamples, batches, samples
from reimagen_generator.training.loss import (
    Batch,
    Draws,
    draw,
    loss_and_gradient,
    loss_by_row,
    placement_loss_by_row,
)
from reimagen_generator.training.optimizer import build_optimizer
from reimagen_generator.training.progress import Progress, StepReport
from reimagen_generator.training.sheets import Sheets, sample_count
from reimagen_generator.training.subject import (
    check_loss,
    check_sides,
    configured_cascade,
    is_trained,
    new_network,
    stage_index,
    stored_network,
    trained_stage,
    weights_file,
)
from reimagen_generator.training.texts import training_text_encoder
from reimagen_generator.weights import checkpoint

Parameters = nnx.State[Any, Any]

_MAXIMUM_CHECKPOINTS = 2
_REPORT_EVERY = 50


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainingState:
    """The state that training changes; of the parameters, only the trained ones."""

    step: Float[Array, ""]
    parameters: Parameters
    average: Parameters
    optimizer: optax.OptState


@dataclass(frozen=True)
class TrainingTask:
    """The values that all steps of a run share."""

    config: TrainingConfig
    stage: StageConfig
    factor: int | None
    graph: nnx.GraphDef[Any]
    mesh: Mesh | None


def initial_state(config: TrainingConfig, parameters: Parameters) -> TrainingState:
    """Return the state before the first step."""
    average = jax.tree.map(jnp.copy, parameters)  # copied, since the step donates both buffers
    return TrainingState(jnp.zeros((), jnp.int32), parameters, average, build_optimizer(config).init(parameters))


def training_step(
    task: TrainingTask, state: TrainingState, frozen: Parameters, batch: Batch, key: Key[Array, ""]
) -> tuple[TrainingState, StepReport]:
    """Return the state after one step, and the step's report."""
    config = task.config

    def loss_of(parameters: Parameters, batch: Batch, draws: Draws) -> tuple[Float[Array, ""], Float[Array, " rows"]]:
        # Copied, since the merged network belongs to one trace, and parts may be computed in separate traces.
        network = nnx.merge(task.graph, *unshard((parameters, frozen), task.mesh), copy=True)
        if isinstance(network, PlacementNetwork):
            losses = placement_loss_by_row(network, task.stage, batch, draws)
        else:
            losses = loss_by_row(network, task.stage, task.factor, batch, draws, config.x0_loss)
        return losses.mean(), losses

    draws = draw(key, config, batch)
    losses, gradient = loss_and_gradient(loss_of, state.parameters, batch, draws, config.accumulation)
    updates, optimizer_state = build_optimizer(config).update(gradient, state.optimizer, state.parameters)
    parameters = optax.apply_updates(state.parameters, updates)
    # At the start, a long average would still contain the random weights.
    decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    average = optax.incremental_update(parameters, state.average, 1.0 - decay)
    after = TrainingState(state.step + 1, parameters, average, optimizer_state)
    report = StepReport(losses, draws.time, optax.tree.norm(gradient))
    if task.mesh is not None:  # each host reports or checks all of it
        report = jax.lax.with_sharding_constraint(report, NamedSharding(task.mesh, spec()))  # type: ignore[no-untyped-call]
    return constrain_parameters(after, task.mesh), report


class Trainer:
    """Training of one stage of a cascade; a run resumes from the checkpoint in its output folder."""

    def __init__(self, config: TrainingConfig) -> None:
        """Open the data, encode its texts, and create or load the network.

        Raises:
            ValueError: The preset, the stage or a part to train is unknown; the crop or resolution does not suit the
                network; or the data, the weights or a text encoder cannot be read.
        """
        cascade = self._cascade = configured_cascade(config)
        self.config = config
        self.stage = trained_stage(config, cascade)
        self.factor = size_factor(cascade, stage_index(config))
        check_sides(config, self.stage, self.factor or 1)
        check_loss(config, self.stage)
        config.output.mkdir(parents=True, exist_ok=True)
        source = ShardSource(config.data, self.stage.size, self.factor and self.stage.size // self.factor)
        source.check()
        self._encoder = training_text_encoder(cascade, config, source)
        self._good = GoodSamples(source)
        self._samples = samples(self._good, config, self.factor or 1)
        self._batches = batches(self._samples, config, self._encoder, cascade.dropped_text)
        self._mesh = available_mesh(config.mesh)
        network, trained = self._initial_network(), is_trained(config.trained)
        self._graph = nnx.graphdef(network)
        parameters, frozen = (nnx.state(network, selection) for selection in (trained, nnx.Not(trained)))
        if not jax.tree.leaves(parameters):
            raise ValueError(f"trained: the network has none of the parts {', '.join(config.trained)}")
        # Frozen parameters are stored as for sampling, which halves the memory for bfloat16.
        self._frozen = place_parameters(in_compute_type(frozen, self.stage.network.dtype), self._mesh)
        parameters = place_parameters(parameters, self._mesh)
        self.state = place_parameters(initial_state(config, parameters), self._mesh)
        self._task = TrainingTask(config, self.stage, self.factor, self._graph, self._mesh)
        self._checkpoints = _checkpoint_manager(config.output)

    def _initial_network(self) -> nnx.Module:
        """Return the network with the initial weights of the run."""
        folder = self.config.beginning
        if folder is None:
            return new_network(self.config, self._cascade)
        return stored_network(self.config, self._cascade, folder)

    def _sheets(self) -> Sheets:
        config = self.config
        side = config.crop or config.resolution or self.stage.size
        return Sheets(
            self.stage,
            self.factor,
            [self._samples[index] for index in range(min(len(self._good), sample_count(side)))],
            self._encoder,
            config.neighbors,
            self._cascade.dropped_text,
            self._mesh,
        )

    def result(self) -> nnx.Module:
        """Return the network with the averaged weights; frozen parameters are exactly the initial ones."""
        network = self._initial_network()
        nnx.update(network, all_gather(self.state.average))
        return network

    def run(self) -> None:
        """Train up to the configured number of steps. Ctrl-C saves a checkpoint and ends the run.

        Raises:
            FloatingPointError: A loss or its gradient is not finite; the message names the step and its samples. No
                checkpoint contains that step.
            ValueError: No record of the data is valid.
        """
        self._restore()
        first = int(self.state.step)
        parts = self.state.parameters, self._frozen
        trained, frozen = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in parts)
        summary = f"{(trained + frozen) / 1e6:.2f}M parameters, {trained / 1e6:.2f}M of them trained"
        tqdm.write(f"{summary}, from step {first} of {self.config.steps}")
        with closing(Progress(self.config, first)) as progress:
            sheets = self._sheets() if self.config.sheet_minutes and self.config.stage != PLACEMENT else None
            self._train(progress, sheets)
            self._save(progress)
            self._checkpoints.wait_until_finished()
            self._write_weights()
            if sheets and progress.step == self.config.steps:
                self._draw(sheets, progress)

    def _train(self, progress: Progress, sheets: Sheets | None) -> None:
        """Run the remaining steps, until Ctrl-C."""
        key = jax.random.key(self.config.seed)
        saved = drawn = time.monotonic()
        # The run stops between steps: an interrupted step would leave the data one batch ahead of the weights.
        stopping: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _: stopping.append(number))
        try:
            for step in range(progress.step, self.config.steps):
                if stopping:
                    tqdm.write("stopped; run the same command to resume from here")
                    break
                batch = next(self._batches)
                rows = place_rows(batch.rows, self._mesh)
                self.state, report = self._step(self.state, self._frozen, rows, jax.random.fold_in(key, step))
                progress.add(report, batch.locations)
                if progress.step % _REPORT_EVERY == 0:
                    self._check(progress)
                    progress.report(len(self._good.bad))
                if _is_due(step, saved, self.config.checkpoint_minutes):
                    self._save(progress)
                    saved = time.monotonic()
                last = progress.step == self.config.steps  # its sheet is drawn after the weights are written
                if sheets and not last and _is_due(step, drawn, self.config.sheet_minutes):
                    self._draw(sheets, progress)
                    drawn = time.monotonic()
        finally:
            signal.signal(signal.SIGINT, before)

    def _write_weights(self) -> None:
        result = self.result()
        if not is_primary():
            return
        checkpoint.save_config(self._cascade, self.config.weights)
        checkpoint.save_network(result, self.config.weights / weights_file(self.config, self._cascade))
        if self.config.cascade is not None:
            checkpoint.copy_missing_weights(self._cascade, self.config.cascade, self.config.weights)

    @partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _step(
        self, state: TrainingState, frozen: Parameters, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainingState, StepReport]:
        return training_step(self._task, state, frozen, batch, key)

    def _check(self, progress: Progress) -> None:
        """End the run if a step is not finite.

        Raises:
            FloatingPointError: A loss or gradient is not finite.
        """
        failure = progress.not_finite()
        if failure is not None:
            self._checkpoints.wait_until_finished()
            latest = self._checkpoints.latest_step()
            hint = "there is no checkpoint yet" if latest is None else f"the last checkpoint is of step {latest}"
            raise FloatingPointError(f"{failure}; {hint}. Try a lower learning_rate")

    def _draw(self, sheets: Sheets, progress: Progress) -> None:
        """Draw a sheet of samples, after a check of the weights."""
        self._check(progress)
        network: Network = nnx.merge(self._graph, *all_gather((self.state.average, self._frozen)))
        sheet = sheets.draw(network)
        if is_primary():
            path = self.config.output / "sheets" / f"{progress.step:08d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(sheet).save(path)
            progress.add_sheet(sheet)

    def _save(self, progress: Progress) -> None:
        self._check(progress)
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
        current, shape = jax.tree.flatten(self.state)
        leaves = [ocp.utils.to_shape_dtype_struct(leaf) for leaf in current]
        for leaf in current:
            leaf.delete()  # memory may not suffice for both
        restored = self._checkpoints.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(leaves), data=CheckpointRestore(self._batches))
        )
        self.state = jax.tree.unflatten(shape, restored["state"])


def _is_due(step: int, since: float, minutes: float) -> bool:
    """Return whether that many minutes have passed; hosts that train together ask the first one at intervals."""
    due = time.monotonic() - since > 60 * minutes
    if jax.process_count() == 1:
        return due
    return (step + 1) % _REPORT_EVERY == 0 and bool(multihost_utils.broadcast_one_to_all(np.array(due)))


def _checkpoint_manager(run: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=_MAXIMUM_CHECKPOINTS)
    return ocp.CheckpointManager((run / "checkpoints").resolve(), options=options)
