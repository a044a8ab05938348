"""Attention on a CPU, with all heads at once or one head at a time: which one `attend` chooses, and what it saves.

The times are processor time on one core, which other work on the machine affects little.
"""

import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.shared.machine import machine
from reimagen_generator.networks import attention

RUNS = 7
SHAPES = {
    "IF-I-L at 0.4 of its widths, 32 x 32, batch 4": (4, 1024, 77, 4, 64),
    "the same, batch 1": (1, 1024, 77, 4, 64),
    "16 x 16, batch 4": (4, 256, 77, 6, 64),
    "16 x 16, 32 rows": (32, 256, 24, 4, 32),
    "16 x 16, 2 rows": (2, 256, 24, 4, 32),
}
"""Rows, queries, keys of the text, heads, and channels per head."""


def milliseconds(function: Callable[..., object], *arguments: jax.Array) -> float:
    """Return the median processor time of a call."""
    compiled = jax.jit(function)
    taken = []
    for _ in range(1 + RUNS):  # the first run compiles
        started = time.process_time()
        for result in jax.tree.leaves(compiled(*arguments)):
            result.block_until_ready()
        taken.append(time.process_time() - started)
    return 1e3 * statistics.median(taken[1:])


def gradient(function: Callable[..., jax.Array]) -> Callable[..., object]:
    """Return the gradient of the sum by query, key and value."""
    return jax.grad(lambda *arguments: function(*arguments).sum(), argnums=(0, 1, 2))


def main() -> None:
    """Measure, and print the table."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{machine()}; milliseconds of one core, medians of {RUNS}")
    print(f"{'':48}{'logits':>8}{'attention':>18}{'and gradient':>20}")
    print(f"{'':48}{'MiB':>8}{'at once':>9}{'by head':>9}{'at once':>11}{'by head':>9}  taken", flush=True)
    for name, (rows, queries, text, heads, channels) in SHAPES.items():
        keys = jax.random.split(jax.random.key(0), 3)
        shapes = [(rows, heads, length, channels) for length in (queries, queries + text, queries + text)]
        arguments = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
        bias = jnp.zeros((rows, 1, 1, queries + text))
        both = attention.attend_at_once, attention.attend_by_head
        called = [milliseconds(f, *arguments, bias) for f in both]
        differentiated = [milliseconds(gradient(f), *arguments, bias) for f in both]
        size = 4 * rows * heads * queries * (queries + text)
        taken = "by head" if size > attention.CPU_CACHE else "at once"
        print(f"{name:48}{size / 2**20:8.1f}{called[0]:9.2f}{called[1]:9.2f}", end="")
        print(f"{differentiated[0]:11.2f}{differentiated[1]:9.2f}  {taken}", flush=True)


if __name__ == "__main__":
    main()
