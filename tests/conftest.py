"""Settings of all tests."""

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import array_types

# Tests run on the CPU, so that they give the same numbers everywhere.
os.environ["JAX_PLATFORMS"] = "cpu"

# Even a tiny cascade takes half a minute to compile: tests and their services compile each once.
_COMPILED = str(Path(__file__).resolve().parents[1] / "build" / "tests" / "compiled")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"
os.environ["REIMAGEN_GENERATOR_COMPILE_CACHE"] = _COMPILED
# Tests run little of what they compile, so LLVM's optimizations would take most of their time. They change no result
# beyond rounding. Without them, XLA's fusion emitters compile some programs to NaN, such as the judge's training.
_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
# Without signatures, the same request gives the same bytes. Tests of signatures turn them on, in folders of their own.
os.environ["REIMAGEN_GENERATOR_SIGNING"] = "false"
# Nothing is written to the user's folder. Tests of the log turn it on, in folders of their own.
os.environ["REIMAGEN_GENERATOR_IMAGE_LOG"] = "0"

# A shell ignores Ctrl-C in background commands, and children inherit that; tests send SIGINT to children.
signal.signal(signal.SIGINT, signal.default_int_handler)

array_types.install()

MOST_MAPS = 15_000
"""About a quarter of the memory maps that Linux allows a process."""

# The long form of property tests.
if _examples := os.environ.get("REIMAGEN_EXAMPLES"):
    settings.register_profile("torture", max_examples=int(_examples))
    settings.load_profile("torture")


@pytest.fixture(scope="module", autouse=True)
def _free_memory() -> Iterator[None]:
    """Free compiled code in time, and return to the system what compilation freed.

    With the compiled code of all tests, a process has more memory maps than Linux allows. The C library otherwise
    keeps the freed memory: freeing compiled code alone does not make a process smaller.
    """
    yield
    maps = Path("/proc/self/maps")
    if "jax" not in sys.modules or not maps.exists():
        return
    if len(maps.read_bytes().splitlines()) > MOST_MAPS:
        sys.modules["jax"].clear_caches()
        gc.collect()
    if return_memory := getattr(ctypes.CDLL(None), "malloc_trim", None):
        return_memory(0)
