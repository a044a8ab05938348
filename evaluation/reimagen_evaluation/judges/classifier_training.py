"""Training of the judge's classifier; a run that was stopped resumes from its last saved state."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from reimagen_evaluation.judges.classifier import Classifier, ClassifierConfig, TrainedClassifier

_STATE_FILE = "state.safetensors"
_KINDS = (nnx.Param, nnx.BatchStat)


@dataclass(frozen=True)
class LabeledImages:
    """Images with the entity and the scene that each shows."""

    images: UInt8[np.ndarray, "batch side side 3"]
    entities: Int[np.ndarray, " batch"]
    """Indices into the configuration's entities."""
    scenes: Int[np.ndarray, " batch"]
    """Indices into the configuration's scenes; negative for an image whose scene cannot be recognized."""


@dataclass(frozen=True)
class ClassifierTraining:
    """The training's hyperparameters."""

    steps: int = 4_000
    batch_size: int = 128
    """Images per batch; recorded only, since the caller makes the batches."""
    learning_rate: float = 3e-3
    """Peak learning rate, reached after the warm-up; it then falls to zero along a cosine."""
    warmup: float = 0.06
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    """Label smoothing of the entity loss."""
    scene_weight: float = 0.3
    """Weight of the scene loss relative to the entity loss."""
    save_every: int = 100
    """Steps between saved states from which a run can resume."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    step: Int[Array, ""]
    parameters: nnx.State[Any, Any]
    statistics: nnx.State[Any, Any]
    optimizer: optax.OptState


def train_classifier(
    config: ClassifierConfig,
    training: ClassifierTraining,
    batch: Callable[[int], LabeledImages],
    folder: Path,
    start: TrainedClassifier | None = None,
) -> TrainedClassifier:
    """Train to the last step, from the state in `folder` if there is one.

    Args:
        config: configuration of the network.
        training: hyperparameters.
        batch: returns the batch of a step. It depends only on the step, so that a resumed run sees the same batches.
        folder: folder of the saved state, one file that is replaced atomically.
        start: classifier of the same configuration whose weights the training starts from; None for random weights.

    Raises:
        ValueError: the state in `folder` is from another configuration, or damaged.
        FloatingPointError: the loss is not finite; the message names the step.
    """
    network = Classifier(config, nnx.Rngs(0)) if start is None else start.network()
    graph, parameters, statistics = nnx.graphdef(network), *(nnx.state(network, kind) for kind in _KINDS)
    optimizer = _optimizer(training)
    state = _State(jnp.zeros((), jnp.int32), parameters, statistics, optimizer.init(parameters))
    folder.mkdir(parents=True, exist_ok=True)
    path, fingerprint = folder / _STATE_FILE, _fingerprint(config, training)
    if path.exists():
        state = _restored(path, fingerprint, state)

    @partial(jax.jit, donate_argnums=0)
    def advance(state: _State, labeled: tuple[Array, Array, Array]) -> tuple[_State, Float[Array, " figures"]]:
        def loss_of(parameters: nnx.State[Any, Any]) -> tuple[Float[Array, ""], tuple[nnx.State[Any, Any], Array]]:
            network: Classifier = nnx.merge(graph, parameters, state.statistics, copy=True)
            logits = network(labeled[0], training=True)
            smooth = optax.smooth_labels(jax.nn.one_hot(labeled[1], len(config.entities)), training.label_smoothing)
            entity = optax.softmax_cross_entropy(logits.entity, smooth).mean()
            seen = labeled[2] >= 0
            scenes = jnp.maximum(seen.sum(), 1)
            of_scenes = optax.softmax_cross_entropy_with_integer_labels(logits.scene, jnp.maximum(labeled[2], 0))
            scene = of_scenes.sum(where=seen) / scenes
            right = [
                (logits.entity.argmax(-1) == labeled[1]).mean(),
                (logits.scene.argmax(-1) == labeled[2]).sum(where=seen) / scenes,
            ]
            loss = entity + training.scene_weight * scene
            return loss, (nnx.state(network, nnx.BatchStat), jnp.stack([loss, *right]))

        gradient, (statistics, figures) = jax.grad(loss_of, has_aux=True)(state.parameters)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.parameters)
        parameters = optax.apply_updates(state.parameters, updates)
        return _State(state.step + 1, parameters, statistics, optimizer_state), figures

    first = int(state.step)
    bar: tqdm[NoReturn] = tqdm(total=training.steps, initial=first, unit="step", desc="judge", smoothing=0.02)
    figures = []
    for step in range(first, training.steps):
        labeled = batch(step)
        state, latest = advance(state, (labeled.images, labeled.entities, labeled.scenes))
        figures.append(latest)
        bar.update()
        if (step + 1) % training.save_every == 0 or step + 1 == training.steps:
            loss, entity, scene = np.mean(jax.device_get(figures), axis=0)
            if not np.isfinite(loss):
                raise FloatingPointError(f"step {step + 1}: the loss is not finite; try a lower learning rate")
            bar.set_postfix(loss=f"{loss:.3f}", entity=f"{entity:.1%}", scene=f"{scene:.1%}")
            figures.clear()
            _save(path, fingerprint, state)
    bar.close()
    return TrainedClassifier(config, nnx.merge(graph, state.parameters, state.statistics))


def _optimizer(training: ClassifierTraining) -> optax.GradientTransformation:
    warmup = round(training.warmup * training.steps)
    rate = optax.warmup_cosine_decay_schedule(0.0, training.learning_rate, warmup, training.steps)
    is_matrix = partial(jax.tree.map, lambda leaf: leaf.ndim > 1)
    decayed = optax.adamw(rate, b2=0.99, weight_decay=training.weight_decay, mask=is_matrix)
    return optax.chain(optax.clip_by_global_norm(1.0), decayed)


def _fingerprint(config: ClassifierConfig, training: ClassifierTraining) -> str:
    return hashlib.sha256(f"{config.model_dump_json()} {asdict(training)}".encode()).hexdigest()


def _save(path: Path, fingerprint: str, state: _State) -> None:
    leaves = {f"{index:04}": np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(state))}
    partial_file = path.with_suffix(f".{os.getpid()}.part")
    save_file(leaves, partial_file, {"fingerprint": fingerprint})
    partial_file.replace(path)


def _restored(path: Path, fingerprint: str, state: _State) -> _State:
    try:
        with safe_open(path, "numpy") as stored:
            if stored.metadata() != {"fingerprint": fingerprint}:
                raise ValueError(f"judge: {path} is from another configuration; delete it to start over")
            leaves = [jnp.asarray(stored.get_tensor(name)) for name in sorted(stored.keys())]
    except SafetensorError as error:
        raise ValueError(f"judge: cannot read {path}: {error}; delete it to start over") from error
    restored: _State = jax.tree.unflatten(jax.tree.structure(state), leaves)
    return restored
