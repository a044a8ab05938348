"""What every test stands on."""

import os

# Tests are about the code, not the machine's accelerator, and give the same numbers everywhere.
os.environ["JAX_PLATFORMS"] = "cpu"
