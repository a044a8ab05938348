"""What every comparison stands on: float32 on the CPU, nothing looked up, warnings of the references left to them."""

import os

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

_REFERENCES = ("diffusers", "huggingface_hub", "torch", "transformers")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors in our code alone."""
    for package in _REFERENCES:
        config.addinivalue_line("filterwarnings", rf"ignore:::{package}(\.|$)")
