"""The commands of the documentation, run as written."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from PIL import Image

from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade

SECONDS = 300
DOCS = Path(__file__).resolve().parents[2] / "docs"
URL = "127.0.0.1:8000"


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def commands_of(page: str) -> str:
    found = re.search(r"```bash\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def printed_by(commands: str, folder: Path) -> str:
    """What the commands print, with services on free ports and a cascade that is drawn in a moment."""
    # Of the size that the pages ask for.
    large = TINY.stages[-1].model_copy(update={"size": 256})
    Cascade.random(TINY.model_copy(update={"stages": (*TINY.stages[:-1], large)}), seed=0).save(folder / "weights")
    retriever, rest = free_address(), free_address()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REIMAGEN_RETRIEVER_GRPC": retriever,
        "REIMAGEN_GENERATOR_RETRIEVER": retriever,
        "REIMAGEN_GENERATOR_GRPC": "127.0.0.1:0",
        "REIMAGEN_GENERATOR_HTTP": rest,
        "REIMAGEN_GENERATOR_WEIGHTS": str(folder / "weights"),
    }
    with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
        shell = subprocess.Popen(
            ["bash", "-c", commands.replace(URL, rest)],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=log,
            start_new_session=True,
        )
        try:
            assert shell.wait(SECONDS) == 0, (folder / "log").read_text()
        finally:
            os.killpg(shell.pid, signal.SIGKILL)
    return (folder / "out").read_text()


def test_your_own_images_in_five_commands(tmp_path: Path) -> None:
    commands = commands_of("tour.md")
    assert commands.count(URL) == 1
    (tmp_path / "robots").mkdir()
    for number, name in enumerate(("kiki", "momo")):
        image = Image.new("RGB", (64, 64), (200, 60 * number, 40))
        image.paste("white", (0, 0, 10 + 30 * number, 32))
        image.save(tmp_path / "robots" / f"{name}.png")
        (tmp_path / "robots" / f"{name}.txt").write_text(f"{name.title()} the robot\n")
    printed = printed_by(commands, tmp_path)
    assert re.match(r"kb: 2 pairs, .*\n  2 under an unknown license\n", printed)
    reported = json.loads(printed[printed.index("{") :])
    assert (reported["prompt"], reported["size"]) == ("Momo the robot in the snow", 256)
    assert reported["neighbors"][0]["id"] == "momo"


def test_a_key_is_made_and_required(tmp_path: Path) -> None:
    with_key, end = json.JSONDecoder().raw_decode(printed := printed_by(commands_of("how-to/access.md"), tmp_path))
    assert [model["id"] for model in with_key["data"]] == ["tiny"]
    assert json.loads(printed[end:])["error"]["code"] == "invalid_api_key"
