"""The commands of docs/how-to/fine-tune.md, run as written on checkpoints that diffusers and transformers wrote."""

import base64
import io
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from parity.scaled_down import write_checkpoints, write_photographs
from reimagen_generator.weights.checkpoint import load_config
from reimagen_generator.weights.shards import StoredTensors

DOCS = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "fine-tune.md"
SCALED_DOWN = {"steps": 2, "batch_size": 2, "accumulation": 2, "warmup_steps": 1}
DRAWN_IN = 2  # number of steps of each stage
SECONDS = 1500


def commands(ports: list[int]) -> str:
    """Return the page's shell blocks, with free ports, and with runs of a few steps."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    script = "\n".join(blocks)
    for name, value in SCALED_DOWN.items():
        script, found = re.subn(rf"^{name} = \d+", f"{name} = {value}", script, flags=re.MULTILINE)
        assert found, name
    retriever, http, grpc = ports
    serving = {"REIMAGEN_RETRIEVER_GRPC": retriever, "REIMAGEN_GENERATOR_RETRIEVER": retriever}
    serving |= {"REIMAGEN_GENERATOR_HTTP": http, "REIMAGEN_GENERATOR_GRPC": grpc}
    exports = [f"export {name}=127.0.0.1:{port}" for name, port in serving.items()]
    fewer = rf"""sed -i -E 's/"steps": [0-9]+/"steps": {DRAWN_IN}/' imported/cascade.json"""
    script = script.replace("reimagen-generator describe imported", f"{fewer}\nreimagen-generator describe imported")
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{http}")
    return "\n".join(["set -eu", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT", *exports, script])


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_the_pages_commands_draw_a_grounded_image(tmp_path: Path) -> None:
    write_checkpoints(tmp_path)
    write_photographs(tmp_path / "photographs")
    programs = str(Path(sys.executable).parent)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "REIMAGEN_GENERATOR_COMPILE_CACHE": str(tmp_path / "compiled"),
    }
    run = subprocess.run(
        ["bash", "-c", commands(free_ports(3))],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    print(run.stdout)  # noqa: T201  (shown by pytest -s)
    assert run.returncode == 0, run.stdout

    config = load_config(tmp_path / "trained")
    assert [stage.network.retrieval for stage in config.stages] == [True, True]
    for size in (64, 256):
        with (
            StoredTensors(tmp_path / "imported" / f"stage-{size}.safetensors") as before,
            StoredTensors(tmp_path / "trained" / f"stage-{size}.safetensors") as after,
        ):
            changed = {name for name in before.shapes if not np.array_equal(before.read(name), after.read(name))}
            assert before.shapes == after.shapes
        assert changed
        assert all(name.startswith("neighbor_attention.") for name in changed)
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert all("Marmalade glass lamp" in neighbor["caption"] for neighbor in answer["neighbors"])
    assert not answer["text_only"]
    with Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"]))) as image:
        assert image.size == (256, 256)
    assert (tmp_path / "lamp.png").is_file()
