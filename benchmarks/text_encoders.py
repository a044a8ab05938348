"""Frozen text encoders, compared by what a small network learns to read from their tokens.

Every encoder's tokens are the input of the same two probes, which are trained on prompts composed as for training:

- *scene*: the networks' own attention pool and a linear layer classify the scene of a prompt. They are tested on
  the wordings of training and on wordings that training never uses.
- *layout*: two blocks of attention over a prompt of two things and the caption of one of them classify where that thing
  should be ("left of", "top right", named first, ...).

All tests are on entities that are held out of training. Times are processor times on one core, which other work on the
machine affects little.
"""

import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import distribution
from pathlib import Path
from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from tqdm import tqdm

from benchmarks.shared.machine import machine
from reimagen_demo.data.compositions import OPPOSITE, Composition, draw_composition
from reimagen_demo.data.frequency import Pool
from reimagen_demo.data.prompts import prompt_of
from reimagen_demo.scenes.registry import SCENES
from reimagen_demo.stack.encoder import TOKENIZER, WEIGHTS
from reimagen_generator.networks.layers import AttentionPool
from reimagen_generator.text.encoder import TextEmbedding, TextEncoder
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from reimagen_generator.text.minilm import load_minilm, minilm_files

TRAINED, TESTED = 6000, 1500
PROMPT_TOKENS, CAPTION_TOKENS = 36, 8
SCENE_STEPS, LAYOUT_STEPS = 400, 800
BATCH, WIDTH, HEADS = 64, 48, 2
NOISE = 0.5
"""Standard deviation of the noise added to the tokens in training, in units of their own deviation."""
INVERSE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "behind": "in front of",
    "in front of": "behind",
    "first": "second",
}
LAYOUTS = sorted({*OPPOSITE, "center", *INVERSE, *INVERSE.values()})

Inputs = tuple[Array, Array]
"""Tokens, (rows, tokens, channels), and a mask of those that are not padding."""


class WordLlamaWords:
    """An encoder by word: the mean of its tokens' vectors in WordLlama's table, plus a sinusoidal position code."""

    channels, length = 256, 48

    def __init__(self) -> None:
        package = distribution("wordllama")
        self._tokenizer = Tokenizer.from_file(str(package.locate_file(TOKENIZER)))
        self._table = load_file(Path(str(package.locate_file(WEIGHTS))))["embedding.weight"].astype(np.float32)
        angles = np.arange(self.length)[:, None] / 100.0 ** np.linspace(0, 1, self.channels // 2)
        self._positions = 0.3 * np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Return embeddings of the texts' words."""
        tokens = np.zeros((len(texts), self.length, self.channels), np.float32)
        mask = np.zeros(tokens.shape[:2], bool)
        for row, text in enumerate(texts):
            for index, word in enumerate(text.lower().replace(",", " ").split()[: self.length]):
                vector = self._table[self._tokenizer.encode(word, add_special_tokens=False).ids].mean(0)
                tokens[row, index] = vector / np.sqrt((vector**2).mean()) + self._positions[index]
                mask[row, index] = True
        return TextEmbedding(tokens, mask)


class SceneProbe(nnx.Module):
    """A classifier of the scene that a prompt names."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.pool = AttentionPool(channels, 2 * WIDTH, HEADS, rngs)
        self.out = nnx.Linear(2 * WIDTH, len(SCENES), rngs=rngs)

    def __call__(self, prompt: Inputs) -> Array:
        """Return the logits."""
        logits: Array = self.out(jax.nn.gelu(self.pool(*prompt)))
        return logits


class LayoutProbe(nnx.Module):
    """A classifier of where a prompt places the thing of a caption."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.prompt, self.caption = (nnx.Linear(channels, WIDTH, rngs=rngs) for _ in range(2))
        self.blocks = nnx.List([_Block(rngs) for _ in range(2)])
        self.pool = AttentionPool(WIDTH, WIDTH, HEADS, rngs)
        self.out = nnx.Linear(WIDTH, len(LAYOUTS), rngs=rngs)

    def __call__(self, prompt: Inputs, caption: Inputs) -> Array:
        """Return the logits."""
        x = jnp.concatenate([self.prompt(self.norm(prompt[0])), self.caption(self.norm(caption[0]))], axis=1)
        mask = jnp.concatenate([prompt[1], caption[1]], axis=1)
        for block in self.blocks:
            x = block(x, mask)
        logits: Array = self.out(jax.nn.gelu(self.pool(x, mask)))
        return logits


class _Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)])
        self.qkv, self.out = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs), nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.expand, self.contract = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs), nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: Array, mask: Array) -> Array:
        query, key, value = jnp.split(self.qkv(self.norms[0](x)).reshape(*x.shape[:2], 3 * HEADS, -1), 3, axis=2)
        x = x + self.out(jax.nn.dot_product_attention(query, key, value, mask=mask[:, None, None]).reshape(x.shape))
        result: Array = x + self.contract(jax.nn.gelu(self.expand(self.norms[1](x))))
        return result


def compositions(rng: Random, pool: Pool, count: int, *, two: bool) -> list[Composition]:
    """Return random compositions; if `two`, of two things each."""
    found: list[Composition] = []
    while len(found) < count:
        drawn = draw_composition(rng, pool, plain=False)
        if not two or len(drawn.things) == 2:
            found.append(drawn)
    return found


def layout_of(composition: Composition, thing: int) -> str:
    """Return where the first or the second of two things should be."""
    place = composition.things[thing].place
    if place is not None:
        return place
    first = composition.relation or "first"
    return INVERSE[first] if thing else first


def padded(encoder: TextEncoder, texts: Sequence[str], tokens: int) -> Inputs:
    """Return the texts' embeddings, truncated to a number of tokens; float16 halves the memory."""
    parts = [encoder.encode(texts[start : start + 256]) for start in range(0, len(texts), 256)]
    cut = [(np.asarray(part.tokens[:, :tokens], np.float16), np.asarray(part.mask[:, :tokens])) for part in parts]
    return jnp.concatenate([one for one, _ in cut]), jnp.concatenate([other for _, other in cut])


def fit(probe: nnx.Module, inputs: Sequence[Inputs], labels: NDArray[np.int64], steps: int) -> None:
    """Train a probe with Adam, a cosine schedule, and the same random draws for all encoders."""
    optimizer = nnx.Optimizer(
        probe, optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=0.05), wrt=nnx.Param
    )
    deviation = [float(tokens[mask].std()) for tokens, mask in inputs]

    @nnx.jit
    def step(
        probe: nnx.Module, optimizer: nnx.Optimizer[nnx.Module], batch: Sequence[Inputs], labels: Array, key: Array
    ) -> None:
        def loss(probe: Callable[..., Array]) -> Array:
            noisy = [
                (tokens + NOISE * scale * jax.random.normal(jax.random.fold_in(key, index), tokens.shape), mask)
                for index, ((tokens, mask), scale) in enumerate(zip(batch, deviation, strict=True))
            ]
            entropy: Array = optax.softmax_cross_entropy_with_integer_labels(probe(*noisy), labels).mean()
            return entropy

        optimizer.update(probe, nnx.grad(loss)(probe))

    rng = np.random.default_rng(0)
    for number in tqdm(range(steps), leave=False):
        rows = rng.integers(0, len(labels), BATCH)
        batch = [(tokens[rows], mask[rows]) for tokens, mask in inputs]
        step(probe, optimizer, batch, jnp.asarray(labels[rows]), jax.random.key(number))


def share_right(probe: Callable[..., Array], inputs: Sequence[Inputs], labels: NDArray[np.int64]) -> float:
    """Return the share of right answers in percent."""
    answers = nnx.jit(lambda *arguments: jnp.argmax(probe(*arguments), axis=-1))(*inputs)
    return 100 * float((np.asarray(answers) == labels).mean())


def scene_rows(encoder: TextEncoder) -> list[float]:
    """Return the share of right scenes: in wordings of training, and in wordings that it never uses."""
    rng = Random(1)  # noqa: S311
    drawn = compositions(rng, "train", TRAINED, two=False)
    probe = SceneProbe(encoder.channels, nnx.Rngs(0))
    labels = np.array([SCENES.index(one.scene) for one in drawn])
    fit(probe, [padded(encoder, [prompt_of(rng, one) for one in drawn], PROMPT_TOKENS)], labels, SCENE_STEPS)
    tested = compositions(rng, "held-out", TESTED, two=False)
    labels = np.array([SCENES.index(one.scene) for one in tested])
    shares = []
    for unseen in (False, True):
        prompts = [prompt_of(rng, one, unseen=unseen) for one in tested]
        shares.append(share_right(probe, [padded(encoder, prompts, PROMPT_TOKENS)], labels))
    return shares


def layout_row(encoder: TextEncoder) -> float:
    """Return the share of right layouts."""

    def drawn(seed: int, pool: Pool, count: int) -> tuple[list[Inputs], NDArray[np.int64]]:
        rng = Random(seed)  # noqa: S311
        found = compositions(rng, pool, count, two=True)
        chosen = [rng.randrange(2) for _ in found]
        captions = [one.things[thing].entity.phrase for one, thing in zip(found, chosen, strict=True)]
        prompts = padded(encoder, [prompt_of(rng, one) for one in found], PROMPT_TOKENS)
        labels = [LAYOUTS.index(layout_of(one, thing)) for one, thing in zip(found, chosen, strict=True)]
        return [prompts, padded(encoder, captions, CAPTION_TOKENS)], np.array(labels)

    probe = LayoutProbe(encoder.channels, nnx.Rngs(0))
    fit(probe, *drawn(2, "train", TRAINED), LAYOUT_STEPS)
    return share_right(probe, *drawn(3, "held-out", TESTED))


def milliseconds(encoder: TextEncoder) -> float:
    """Return the median processor time of a prompt, for different prompts one at a time."""
    rng = Random(4)  # noqa: S311
    taken = []
    for one in compositions(rng, "held-out", 60, two=False):
        prompt = prompt_of(rng, one)
        started = time.process_time()
        np.asarray(encoder.encode([prompt]).tokens)
        taken.append(time.process_time() - started)
    return 1e3 * float(np.median(taken))


def main() -> None:
    """Measure, and print the table."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sizes = f"{TRAINED} prompts for each probe, {TESTED} in each test"
    print(f"{machine()}; {len(SCENES)} scenes, {len(LAYOUTS)} layouts, {sizes}")
    encoders: dict[str, TextEncoder] = {
        "hashed n-grams": HashedNgramEncoder(),
        "WordLlama, by word": WordLlamaWords(),
        "MiniLM": load_minilm(minilm_files(None), 48),
    }
    print(
        f"{'':20}{'channels':>10}{'ms a text':>11}{'scene, trained':>16}{'scene, unseen wordings, %':>27}", flush=True
    )
    for name, encoder in encoders.items():
        trained, unseen = scene_rows(encoder)
        print(
            f"{name:20}{encoder.channels:>10}{milliseconds(encoder):>11.2f}{trained:>16.1f}{unseen:>27.1f}", flush=True
        )
    print(f"{'':20}{'layout, %':>10}")
    for name, encoder in encoders.items():
        print(f"{name:20}{layout_row(encoder):>10.1f}", flush=True)


if __name__ == "__main__":
    main()
