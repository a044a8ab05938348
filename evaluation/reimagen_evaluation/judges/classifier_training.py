"""Training the judge's classifier: batches by their number in, weights out; stopped, it goes on where it was."""

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
class Labelled:
    """Images and what they show."""

    images: UInt8[np.ndarray, "batch side side 3"]
    entities: Int[np.ndarray, " batch"]
    """Places in the configuration's entities."""
    scenes: Int[np.ndarray, " batch"]
    """Places in the configuration's scenes."""


@dataclass(frozen=True)
class ClassifierTraining:
    """How it is trained."""

    steps: int = 4_000
    batch_size: int = 128
    """Told here for the record: batches are as large as they come."""
    learning_rate: float = 3e-3
    """At its peak, after the warm-up; it falls to zero by a cosine."""
    warmup: float = 0.06
    """Share of the steps in which the rate rises."""
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    """Of the entity; how sure the network is told to be."""
    scene_weight: float = 0.3
    """Of the scene's loss, the entity's counting one."""
    save_every: int = 100
    """Steps between states that a run can go on from."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    step: Int[Array, ""]
    parameters: nnx.State[Any, Any]
    statistics: nnx.State[Any, Any]
    optimizer: optax.OptState


def train_classifier(
    config: ClassifierConfig, training: ClassifierTraining, batch: Callable[[int], Labelled], folder: Path
) -> TrainedClassifier:
    """Trains to the last step, from the state in `folder` if there is one.

    Args:
        config: the network.
        training: steps, rates, weights.
        batch: the batch of a step, by its number alone, so that a run that goes on sees what it would have seen.
        folder: where states are kept, in one file that is replaced at once.

    Raises:
        ValueError: the state in `folder` is another configuration's, or damaged.
        FloatingPointError: the loss is not finite, naming the step.
    """
    network = Classifier(config, nnx.Rngs(0))
    graph, parameters, statistics = nnx.graphdef(network), *(nnx.state(network, kind) for kind in _KINDS)
    optimizer = _optimizer(training)
    state = _State(jnp.zeros((), jnp.int32), parameters, statistics, optimizer.init(parameters))
    folder.mkdir(parents=True, exist_ok=True)
    path, fingerprint = folder / _STATE_FILE, _fingerprint(config, training)
    if path.exists():
        state = _restored(path, fingerprint, state)

    @partial(jax.jit, donate_argnums=0)
    def advance(state: _State, labelled: tuple[Array, Array, Array]) -> tuple[_State, Float[Array, " figures"]]:
        def loss_of(parameters: nnx.State[Any, Any]) -> tuple[Float[Array, ""], tuple[nnx.State[Any, Any], Array]]:
            network: Classifier = nnx.merge(graph, parameters, state.statistics, copy=True)
            logits = network(labelled[0], training=True)
            smooth = optax.smooth_labels(jax.nn.one_hot(labelled[1], len(config.entities)), training.label_smoothing)
            entity = optax.softmax_cross_entropy(logits.entity, smooth).mean()
            scene = optax.softmax_cross_entropy_with_integer_labels(logits.scene, labelled[2]).mean()
            right = [
                (logits.entity.argmax(-1) == labelled[1]).mean(),
                (logits.scene.argmax(-1) == labelled[2]).mean(),
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
        labelled = batch(step)
        state, latest = advance(state, (labelled.images, labelled.entities, labelled.scenes))
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
    leaves = {f"{place:04}": np.asarray(leaf) for place, leaf in enumerate(jax.tree.leaves(state))}
    partial_file = path.with_suffix(f".{os.getpid()}.part")
    save_file(leaves, partial_file, {"fingerprint": fingerprint})
    partial_file.replace(path)


def _restored(path: Path, fingerprint: str, state: _State) -> _State:
    try:
        with safe_open(path, "numpy") as stored:
            if stored.metadata() != {"fingerprint": fingerprint}:
                raise ValueError(f"judge: {path} is of another configuration; delete it to train anew")
            leaves = [jnp.asarray(stored.get_tensor(name)) for name in sorted(stored.keys())]
    except SafetensorError as error:
        raise ValueError(f"judge: cannot read {path}: {error}; delete it to train anew") from error
    restored: _State = jax.tree.unflatten(jax.tree.structure(state), leaves)
    return restored
