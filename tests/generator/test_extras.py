"""Commands that need the extra `training`, where it is not installed."""

import subprocess
import sys

import pytest

EXTRA = ("grain", "tensorboardX", "tqdm")  # flax itself needs optax and orbax
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({EXTRA}))  # each import of them fails
from reimagen_generator.cli import app
app()
"""


def run_without(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("train", "64.toml"), ("redraw", "shards", "out", "--weights", "cascade")])
def test_training_says_which_extra_to_install(arguments: tuple[str, ...]) -> None:
    refused = run_without(*arguments)
    assert refused.returncode == 2
    message = refused.stderr.splitlines()[-1]
    assert message.startswith("error: this command needs the package ")
    assert message.endswith("run `pip install 'reimagen-generator[training]'`")


def test_other_commands_do_not_need_it() -> None:
    described = run_without("describe", "tiny")
    assert described.returncode == 0, described.stderr
    assert "parameters" in described.stdout
