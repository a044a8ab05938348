"""A service under a mixed load, whose clients vanish, cancel and set short deadlines, loses nothing and leaks nothing.

    REIMAGEN_SOAK=10000 python -m pytest tests/integration/test_soak.py --capture=no

sends that many requests to one process, of which a tenth is cancelled at a random step. `make soak` is the same.
"""

import base64
import hashlib
import json
import math
import os
import random
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from tests.waiting import SECONDS, LoggedProcess, wait_until

REQUESTS = int(os.environ.get("REIMAGEN_SOAK", "60"))
CLIENTS = 6
SAMPLES = 40
"""Number of times that the memory of the process is read."""
LONG_RUN = 2_000
"""From so many requests on, the growth of memory is bounded."""
MOST_GROWTH = 1_024.0
"""Bytes of each request, in the second half of a long run."""
URL = "/v1/images/generations"


@dataclass(frozen=True)
class Wish:
    """What a client asks for."""

    prompt: str
    seed: int
    n: int
    size: int
    steps: int

    @property
    def body(self) -> dict[str, Any]:
        return vars(self) | {"size": f"{self.size}x{self.size}", "retrieval": {"k": 0}}

    @property
    def message(self) -> pb.GenerateRequest:
        return pb.GenerateRequest(**vars(self), retrieval=pb.GenerateRequest.Retrieval(k=0))


WISHES = [
    Wish(f"a {thing} in the snow", seed, n, size, steps)
    for seed, (thing, n, size, steps) in enumerate(
        [("fox", 1, 16, 4), ("kea", 3, 16, 9), ("lemon", 2, 32, 5), ("whale", 1, 16, 40), ("panda", 1, 64, 4)]
    )
]
LAST = Wish("an owl that is drawn during the stop", 77, 2, 16, 300)


def digest(file: bytes) -> str:
    return hashlib.sha256(file).hexdigest()


@dataclass
class Soak:
    """The clients of one process."""

    process: LoggedProcess
    rest: httpx.Client
    generation: GenerationStub
    alone: dict[Wish, list[str]] = field(default_factory=dict)
    """The digests of the images of each wish, drawn while nothing else was."""
    outcomes: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[int, int]] = field(default_factory=list)
    """Numbers of sent requests, and the bytes of memory that the process then had."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, wish: Wish, index: int, file: bytes) -> None:
        """Check that an image is the one that its request alone has."""
        assert digest(file) == self.alone[wish][index], (wish, index)

    def draw(self, wish: Wish, _: random.Random) -> str:
        response = self.rest.post(URL, json=wish.body)
        if response.status_code != 200:
            return f"status {response.status_code}"
        for index, image in enumerate(response.json()["data"]):
            self.check(wish, index, base64.b64decode(image["b64_json"]))
        return "drawn"

    def vanish(self, wish: Wish, rng: random.Random) -> str:
        """Close the connection of a stream after a random number of its events."""
        number = rng.randint(0, wish.n * wish.steps)
        with self.rest.stream("POST", URL, json=wish.body | {"stream": True}) as response:
            if response.status_code != 200:
                return f"status {response.status_code}"
            for name, data in events_of(response.iter_lines()):
                if name == "image_generation.completed":
                    self.check(wish, data["index"], base64.b64decode(data["b64_json"]))
                number -= 1
                if number < 0:
                    return "vanished over HTTP"
        return "drawn"

    def hang_up(self, wish: Wish, rng: random.Random) -> str:
        """Cancel a call after a random number of its events."""
        return self.call(wish, seconds=SECONDS, most=rng.randint(0, wish.n * wish.steps))

    def hurry(self, wish: Wish, rng: random.Random) -> str:
        """Set a deadline of 1 ms to 10 s."""
        return self.call(wish, seconds=10 ** rng.uniform(-3, 1))

    def call(self, wish: Wish, *, seconds: float, most: float = math.inf) -> str:
        """Draw over gRPC, and cancel the call when more than `most` events came."""
        call = self.generation.Generate(wish.message, timeout=seconds)
        try:
            for number, event in enumerate(call):
                if event.HasField("image"):
                    self.check(wish, event.image.index, event.image.image)
                if number >= most:
                    call.cancel()
                    return "cancelled over gRPC"
        except grpc.RpcError as error:
            return str(error.code().name)
        return "drawn"

    def delete(self, wish: Wish, rng: random.Random) -> str:
        """Delete a job after a random number of its events."""
        created = self.rest.post("/v1/jobs", json=wish.body)
        if created.status_code != 202:
            return f"status {created.status_code}"
        job, number = created.json()["id"], rng.randint(0, wish.n * wish.steps)
        with self.rest.stream("GET", f"/v1/jobs/{job}/events") as response:
            for _ in events_of(response.iter_lines()):
                number -= 1
                if number < 0:
                    break
        ended = self.rest.delete(f"/v1/jobs/{job}").json()
        for image in ended["data"]:
            self.check(wish, image["seed"] - wish.seed, self.rest.get(image["url"]).content)
        return f"job {ended['status']}"

    def send(self, number: int) -> None:
        """Send one request of a random kind."""
        rng = random.Random(number)
        tenth, rest = divmod(number, 10)
        kinds = [self.draw, self.draw, self.hurry] if rest else [self.vanish, self.hang_up, self.delete]
        kind = kinds[(rest or tenth) % 3]
        outcome = kind(rng.choice(WISHES), rng)
        with self.lock:
            self.outcomes[outcome] += 1
            if number % max(1, REQUESTS // SAMPLES) == 0:
                self.memory.append((number, resident(self.process.popen.pid)))

    def last(self, began: threading.Barrier) -> bool:
        """Draw a long wish during the stop; return whether the whole of it came."""
        missing = LAST.n
        with self.rest.stream("POST", URL, json=LAST.body | {"stream": True}) as response:
            assert response.status_code == 200, response.read()
            for number, (name, data) in enumerate(events_of(response.iter_lines())):
                if number == 0:
                    began.wait(SECONDS)
                if name == "image_generation.completed":
                    self.check(LAST, data["index"], base64.b64decode(data["b64_json"]))
                    missing -= 1
        return missing == 0

    def used(self) -> dict[str, float]:
        """Return the metrics that must be zero when no request is there."""
        names = ("queue_length", "slots_used_ratio", "requests_waiting", "jobs_unfinished", "backlog_seconds")
        line = rf"^reimagen_generator_({'|'.join(names)}) (\S+)$"
        found = re.findall(line, self.rest.get("/metrics").text, re.MULTILINE)
        assert len(found) == len(names), found
        return {name: float(value) for name, value in found if float(value)}

    def growth(self) -> float:
        """Return the bytes by which memory grows with each request of the second half, by least squares."""
        numbers, sizes = np.array([each for each in self.memory if each[0] >= REQUESTS // 2], float).T
        return float(np.polyfit(numbers, sizes, 1)[0])


def events_of(lines: Iterable[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield the name and the data of each server-sent event."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        if line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def resident(process: int) -> int:
    """Return the bytes of memory that a process has."""
    status = Path(f"/proc/{process}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return 1024 * int(kilobytes)


def test_a_load_of_impatient_clients(tmp_path: Path) -> None:
    Cascade.random(TINY, seed=0).save(tmp_path / "weights")
    program = Path(sys.executable).with_name("reimagen-generator")
    command: list[str | Path] = [program, "serve", "--weights", tmp_path / "weights"]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    environment = {
        "REIMAGEN_GENERATOR_JOBS": str(tmp_path / "jobs"),
        "REIMAGEN_GENERATOR_JOB_RETENTION_SECONDS": "60",
        "REIMAGEN_GENERATOR_STOP_SECONDS": str(SECONDS),
        "REIMAGEN_GENERATOR_LOG_LEVEL": "info",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with ExitStack() as stack:
        process = stack.enter_context(LoggedProcess(command, environment))
        ports = process.wait_for_line(r"msg=ready .*http_port=(\d+) grpc_port=(\d+)")
        rest = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{ports[1]}", timeout=SECONDS))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{ports[2]}"))
        soak = Soak(process, rest, GenerationStub(channel))
        for wish in [*WISHES, LAST]:
            drawn = rest.post(URL, json=wish.body).json()["data"]
            soak.alone[wish] = [digest(base64.b64decode(image["b64_json"])) for image in drawn]
        threads = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        list(threads.map(soak.send, range(REQUESTS)))
        wait_until(lambda: not soak.used())
        sys.stdout.write(f"\n{REQUESTS} requests: {dict(soak.outcomes.most_common())}\n")
        known = {"drawn", "vanished over HTTP", "cancelled over gRPC", "job cancelled", "job completed"}
        # A deadline is too early alone, or because of the load; the load alone refuses others.
        known |= {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "status 429"}
        assert soak.outcomes.keys() <= known
        assert {"drawn", "vanished over HTTP", "DEADLINE_EXCEEDED"} <= soak.outcomes.keys()
        sizes = [size / 2**20 for _, size in sorted(soak.memory)]
        memory = f"{sizes[0]:.0f} MiB at first, {sizes[-1]:.0f} MiB at last, {soak.growth():+.0f} bytes a request"
        sys.stdout.write(f"memory: {memory} in the second half\n")
        assert REQUESTS < LONG_RUN or soak.growth() <= MOST_GROWTH
        began = threading.Barrier(CLIENTS + 1)
        during = [threads.submit(soak.last, began) for _ in range(CLIENTS)]
        began.wait(SECONDS)
        process.popen.send_signal(signal.SIGTERM)
        assert all(one.result(SECONDS) for one in during)
        assert process.popen.wait(SECONDS) == 0
