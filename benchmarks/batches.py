"""The cost of an image of an evaluation by the batch size, to choose how many images to draw at once.

CPU time is the work itself, independent of other work on the machine; seconds are elapsed time.

    python -m benchmarks.batches
"""

import time
from pathlib import Path

import numpy as np

from benchmarks.shared.machine import machine
from reimagen_evaluation.drawing import BatchDrawer
from reimagen_evaluation.setting import Setting, StageChange
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.jax_setup import keep_compiled
from reimagen_generator.settings import SHIPPED_WEIGHTS

SIZE = 64
STEPS = 6
BATCHES = (1, 4, 8, 16)
IMAGES = 16
REFERENCE = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)


def main() -> None:
    """Print a row for each batch size."""
    keep_compiled(Path("build/demo/compiled"))
    drawer = BatchDrawer.load(SHIPPED_WEIGHTS)
    changes = {SIZE: StageChange(steps=STEPS)}
    setting = Setting(weights=SHIPPED_WEIGHTS, size=SIZE, neighbors="references", k=1, stages=changes)
    print(f"{STEPS} steps of the {SIZE} stage of cascade {drawer.config.name!r}, one neighbor; {machine()}")
    print(f"{'batch':>5}  {'s an image':>11}  {'CPU s an image':>15}")
    for batch in BATCHES:
        rows = [Row("a fox in the snow", [ReferencePair(REFERENCE, "a fox")], seed) for seed in range(batch)]
        drawer.draw(rows, setting)  # compiles
        wall, cpu = time.monotonic(), time.process_time()
        for _ in range(IMAGES // batch):
            drawer.draw(rows, setting)
        spent = (time.monotonic() - wall) / IMAGES, (time.process_time() - cpu) / IMAGES
        print(f"{batch:>5}  {spent[0]:>11.3f}  {spent[1]:>15.3f}", flush=True)


if __name__ == "__main__":
    main()
