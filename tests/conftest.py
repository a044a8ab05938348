"""What every test stands on."""

import os
import signal
from pathlib import Path

from hypothesis import settings

from tests import array_types

# Tests are about the code, not the machine's accelerator, and give the same numbers everywhere.
os.environ["JAX_PLATFORMS"] = "cpu"

# A cascade takes half a minute to compile, however tiny: tests, and the services that they start, compile each once.
_COMPILED = str(Path(__file__).resolve().parents[1] / "build" / "tests" / "compiled")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"
os.environ["REIMAGEN_GENERATOR_COMPILE_CACHE"] = _COMPILED

# A shell starts what it runs in the background with Ctrl-C ignored, and children inherit that: tests send it to them.
signal.signal(signal.SIGINT, signal.default_int_handler)

array_types.install()

# The long form of tests of properties.
if _examples := os.environ.get("REIMAGEN_EXAMPLES"):
    settings.register_profile("torture", max_examples=int(_examples))
    settings.load_profile("torture")
