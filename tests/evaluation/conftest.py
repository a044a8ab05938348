from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tiny cascade with random weights: at initialization, zeroed layers would hide the neighbors."""
    folder = tmp_path_factory.mktemp("learned")
    Cascade.random(TINY, seed=0).save(folder)
    noise = np.random.default_rng(0)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        save_file({name: (t + noise.normal(0, 0.1, t.shape)).astype(np.float16) for name, t in tensors.items()}, file)
    return folder
