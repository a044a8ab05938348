"""Settings of all comparisons: float32 on the CPU, no downloads, and warnings of the reference libraries ignored."""

import os

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

_REFERENCES = ("diffusers", "huggingface_hub", "torch", "transformers")


def pytest_configure(config: pytest.Config) -> None:
    """Ignore warnings of the reference libraries, so that only our own warnings are errors."""
    for package in _REFERENCES:
        config.addinivalue_line("filterwarnings", rf"ignore:::{package}(\.|$)")
