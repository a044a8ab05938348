"""Runs that are killed again and again, at moments left to chance, end with the weights of a run never killed.

    REIMAGEN_KILLS=25 python -m pytest tests/generator/training/test_killed.py

kills runs of all stages of the tiny cascade that often.
"""

import fcntl
import io
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reimagen_generator.config.presets import TINY
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.trainer import Trainer
from reimagen_generator.weights.checkpoint import stage_file

KILLS = int(os.environ.get("REIMAGEN_KILLS", "3"))
SECONDS = 600
STEPS = 160
LAST_MOMENT = 64
"""A step, so early that a process whose progress nobody reads is stopped by a full pipe before it has ended."""
PIPE_BYTES = 4096

CASES = [("tiny", stage) for stage in range(3)] if "REIMAGEN_KILLS" in os.environ else [("small", 0)]


def write_shards(folder: Path, side: int) -> None:
    """Write five images of noise with two neighbors each."""
    folder.mkdir()
    pixels = np.random.default_rng(0)
    with tarfile.open(folder / "00000.tar", "w") as shard:
        for number in range(5):
            for prefix in ("", "neighbor0.", "neighbor1."):
                buffer = io.BytesIO()
                Image.fromarray(pixels.integers(0, 256, (side, side, 3), np.uint8)).save(buffer, "PNG")
                for suffix, content in (("png", buffer.getvalue()), ("txt", f"kea {number} {prefix}".encode())):
                    member = tarfile.TarInfo(f"{number}.{prefix}{suffix}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


def start(config: TrainingConfig, folder: Path) -> subprocess.Popen[bytes]:
    """Start a training process that reports every step."""
    file = folder / "config.toml"
    fields = config.model_dump(mode="json", exclude_defaults=True)
    file.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in fields.items()))
    reported = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    process = subprocess.Popen(
        [Path(sys.executable).with_name("reimagen-generator"), "train", file],
        env=os.environ | reported | {"TQDM_MININTERVAL": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stderr is not None
    fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return process


def wait_for(process: subprocess.Popen[bytes], step: int) -> None:
    """Read the progress bar until it reaches a step; a resumed run starts at a checkpoint."""
    assert process.stderr is not None
    reported = b""
    while not any(int(found) >= step for found in re.findall(rb"\| (\d+)/%d \[" % STEPS, reported)):
        assert select.select([process.stderr], [], [], SECONDS)[0], reported.decode()
        heard = process.stderr.read(256)
        assert heard, reported.decode()
        reported += heard


@pytest.mark.parametrize(("cascade", "stage"), CASES)
def test_a_run_killed_repeatedly_ends_with_the_same_weights(
    tmp_path: Path, small: Path, cascade: str, stage: int
) -> None:
    size = TINY.stages[stage].size
    write_shards(tmp_path / "data", size)

    def config(name: str, **changed: Any) -> TrainingConfig:
        folders = {"output": tmp_path / name, "weights": tmp_path / name / "weights"}
        values = {"stage": stage, "data": tmp_path / "data", **folders}
        values |= {"cascade": small} if cascade == "small" else {"preset": cascade}
        values |= {"steps": STEPS, "warmup_steps": 1, "batch_size": 2, "draws": 2, "distractors": 0.5}
        return TrainingConfig.model_validate(values | {"sheet_minutes": 0} | changed)

    whole, killed = config("whole"), config("killed")
    Trainer(whole).run()
    chance = random.Random(stage)
    for step in sorted(chance.choices(range(LAST_MOMENT), k=KILLS)):
        # The run saves after each step, so most kills hit the writing of a checkpoint.
        with start(config("killed", checkpoint_minutes=1e-6), tmp_path) as process:
            try:
                wait_for(process, step)
            finally:
                process.kill()
        assert process.returncode == -signal.SIGKILL
    kept = [int(path.name) for path in (killed.output / "checkpoints").iterdir() if path.name.isdigit()]
    assert 0 < max(kept) < STEPS
    assert not killed.weights.exists()
    Trainer(killed).run()
    file = stage_file(size)
    assert (killed.weights / file).read_bytes() == (whole.weights / file).read_bytes()
