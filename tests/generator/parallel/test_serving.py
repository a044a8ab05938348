"""A generator of two processes: the images of one, and the end of all when one is killed."""

import base64
import io
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from reimagen_generator.config.mesh import MeshConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.networks.registry import build_network
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from reimagen_generator.weights.checkpoint import save_config
from tests.waiting import LoggedProcess

SECONDS = 240
NOTICED_SECONDS = 10
STAGES = TINY.stages[:2]
PROMPT, CAPTION, SEED = "a red panda", "a panda", 7
REFERENCE = np.zeros((24, 16, 3), np.uint8) + np.arange(24, dtype=np.uint8)[:, None, None] * 10


def png() -> str:
    buffer = io.BytesIO()
    Image.fromarray(REFERENCE).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


URL = "/v1/images/generations"
BODY = {"prompt": PROMPT, "seed": SEED, "size": 32, "references": [{"image": png(), "caption": CAPTION}]}


def awakened() -> Cascade:
    """Return the first stages of the tiny cascade with random weights: new networks ignore their neighbors."""
    rng = np.random.default_rng(5)
    networks = [build_network(stage.network, nnx.Rngs(0)) for stage in STAGES]
    for network in networks:
        state = nnx.state(network, nnx.Param)
        nnx.update(network, jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32), state))
    return Cascade(TINY.model_copy(update={"stages": STAGES}), networks, HashedNgramEncoder())


def client(port: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS)


class Group:
    """Two processes of one generator."""

    def __init__(self, weights: Path, stack: ExitStack) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        settings = {
            "WEIGHTS": str(weights),
            "COORDINATOR": address,
            "PROCESSES": "2",
            "HTTP": "127.0.0.1:0",
            "GRPC": "127.0.0.1:0",
            "RETRIEVER": "127.0.0.1:1",
            "STOP_SECONDS": "0",
            "DEADLINE_SECONDS": "3600",
        }
        program: list[str | Path] = [Path(sys.executable).with_name("reimagen-generator"), "serve"]
        self.leader, self.follower = (
            stack.enter_context(
                LoggedProcess(
                    program,
                    {f"REIMAGEN_GENERATOR_{name}": value for name, value in settings.items()}
                    | {"REIMAGEN_GENERATOR_PROCESS": str(number)},
                )
            )
            for number in range(2)
        )
        following = self.follower.wait_for_line(r"msg=following .*http_port=(\d+)")
        self.follower_rest = stack.enter_context(client(following[1]))
        ready = self.leader.wait_for_line(r"msg=ready .*http_port=(\d+)")
        self.rest = stack.enter_context(client(ready[1]))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    awakened().save(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    # Each process has a half of every parameter, so that a step needs both.
    save_config(TINY.model_copy(update={"stages": STAGES, "mesh": MeshConfig(fsdp=2)}), tmp_path / "two")
    with ExitStack() as stack:
        yield Group(tmp_path / "two", stack)


def test_two_processes_draw_the_images_of_one_and_end_together(group: Group, tmp_path: Path) -> None:
    assert group.follower_rest.get("/readyz").json()["status"] == "ready"
    assert group.follower_rest.get("/v1/models").status_code == 404
    response = group.rest.post(URL, json=BODY | {"n": 2})
    assert response.status_code == 200, response.text
    alone = Cascade.load(tmp_path / "one")
    for seed, image in enumerate(response.json()["data"], start=SEED):
        (*_, last) = alone.draw(PROMPT, [ReferencePair(REFERENCE, CAPTION)], seeds=[seed], size=32)
        assert isinstance(last, ImagesEvent)
        drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["b64_json"]))))
        np.testing.assert_array_equal(drawn, last.images[0])
    group.leader.popen.send_signal(signal.SIGTERM)
    assert (group.leader.popen.wait(SECONDS), group.follower.popen.wait(SECONDS)) == (0, 0)


def test_a_killed_follower_ends_requests_and_the_leader(group: Group) -> None:
    # So many steps do not end before the process is killed.
    body = BODY | {"size": 16, "steps": 300, "stream": True}
    with group.rest.stream("POST", URL, json=body) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)  # of the first step
        group.follower.popen.kill()
        error = "".join(lines)
    assert "process 1 of this service has ended" in error
    assert group.leader.popen.wait(NOTICED_SECONDS) == 1
