"""The setup of JAX, in separate processes because it cannot be undone."""

import subprocess
import sys
from pathlib import Path

DRAW = """
import logging, sys
from pathlib import Path
logging.basicConfig(level="INFO")
from reimagen_generator.jax_setup import keep_compiled, leave_out_missing_tpus
keep_compiled(Path(sys.argv[1]))
leave_out_missing_tpus()
import jax
jax.jit(lambda x: x * 2 + 1)(jax.numpy.arange(3.0)).block_until_ready()
"""


def compiled_in(folder: Path) -> tuple[set[str], str]:
    """Return the files of compiled code after a function was compiled, and the log."""
    # JAX looks for all platforms, as in a service.
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", DRAW, folder], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return {path.name for path in folder.iterdir() if path.name.endswith("-cache")}, done.stderr


def test_compiled_code_is_found_after_its_folder_moved(tmp_path: Path) -> None:
    first, _ = compiled_in(tmp_path / "here")
    assert first
    (tmp_path / "here").rename(tmp_path / "there")
    again, log = compiled_in(tmp_path / "there")
    assert again == first
    assert "libtpu" not in log
