"""Live writes during searches: the time of an add, its effect on searches, and whether searches are stale.

The script builds a knowledge base and serves it with `reimagen-retriever serve` in a separate process, without a cache.
Four clients search it continuously, in alternating periods with and without concurrent adds. After each add, the new
pair is searched in the same service and in a second one that serves the same folder; a search that does not find it is
stale. The script prints a table, and exits with status 1 if a search failed or was stale.

    python -m benchmarks.freshness [PAIRS] [ADDS]
"""

import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from PIL import Image

from benchmarks.shared.machine import machine
from benchmarks.shared.service import ready_address
from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_common.processes import stop_child

PROGRAM = Path(sys.executable).with_name("reimagen-retriever")
PAIRS = 20_000
ADDS = 1_000
CLIENTS = 4
TURN_SECONDS = 8.0
TURNS = 5
"""Periods with and without adds alternate, so that other work on the machine affects both."""


@dataclass
class Searches:
    """The searches of all clients in the periods of one kind."""

    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    failed: int = 0

    def row(self, name: str) -> str:
        """Return a line of the table."""
        p50, p95 = statistics.median(self.milliseconds), statistics.quantiles(self.milliseconds, n=20)[-1]
        rate = len(self.milliseconds) / self.seconds
        return f"{name:32}{p50:10.2f}{p95:10.2f}{rate:12,.0f}{self.failed:10,}"


def words() -> list[str]:
    """Return two thousand made-up words."""
    rng = random.Random(0)  # noqa: S311
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    return ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(2_000)]


def random_image() -> bytes:
    """Return the file of a small random image, different in each call."""
    file = io.BytesIO()
    Image.frombytes("RGB", (64, 64), random.randbytes(64 * 64 * 3)).save(file, "JPEG")  # noqa: S311
    return file.getvalue()


def write_source(folder: Path, pairs: int) -> None:
    """Write a source with one image under many captions."""
    (folder / "image.jpg").write_bytes(random_image())
    vocabulary, rng = words(), random.Random(1)  # noqa: S311
    with (folder / "captions.jsonl").open("w") as lines:
        for number in range(pairs):
            caption = "a " + " ".join(rng.choices(vocabulary, k=rng.randint(1, 3)))
            lines.write(json.dumps({"image": "image.jpg", "text": caption, "id": f"{number:09d}"}) + "\n")


def serve(folder: Path, log: Path, started: ExitStack) -> RetrievalStub:
    """Start a service of the base, wait until it is ready, and return its client."""
    process = subprocess.Popen([PROGRAM, "serve", folder, "--grpc", "127.0.0.1:0"], stderr=log.open("w"))
    started.callback(lambda: stop_child(process, 10))
    return RetrievalStub(started.enter_context(grpc.insecure_channel(ready_address(process, log))))


class Adding:
    """Adds of single pairs, each followed by a search for the pair in both services."""

    def __init__(self, *stubs: RetrievalStub) -> None:
        self._stubs = stubs
        self.milliseconds: list[float] = []
        self.stale = 0

    def add(self, number: int) -> None:
        """Add a pair whose caption has a unique word, and search for it after the acknowledgment."""
        request = pb.AddPairsRequest(
            id=f"new {number}", caption=f"a new{number}thing", image=random_image(), license="MIT"
        )
        began = time.perf_counter()
        added = self._stubs[0].AddPairs(iter([request]))
        self.milliseconds.append((time.perf_counter() - began) * 1e3)
        for stub in self._stubs:
            answer = stub.Search(pb.SearchRequest(query=f"one new{number}thing", k=1))
            found = [(neighbor.pair.id, neighbor.pair.image) for neighbor in answer.neighbors]
            if found != [(request.id, request.image)] or answer.revision != added.revision:
                self.stale += 1


@contextmanager
def searching(stub: RetrievalStub, seen: Searches, seed: int) -> Iterator[None]:
    """Run the clients' searches during the `with` block."""
    over = threading.Event()
    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(search, stub, seed * CLIENTS + client, over, seen) for client in range(CLIENTS)]
        try:
            yield
        finally:
            over.set()
        for client in clients:
            client.result()
    seen.seconds += time.perf_counter() - began


def search(stub: RetrievalStub, seed: int, over: threading.Event, seen: Searches) -> None:
    """Search as one client, continuously until the event is set."""
    vocabulary, rng = words(), random.Random(seed)  # noqa: S311
    while not over.is_set():
        prompt = f"a {' '.join(rng.sample(vocabulary, 2))} in the snow"
        request = pb.SearchRequest(query=prompt, minimum_score=0)
        began = time.perf_counter()
        try:
            stub.Search(request)
        except grpc.RpcError:
            seen.failed += 1
        seen.milliseconds.append((time.perf_counter() - began) * 1e3)


def main(pairs: int, adds: int) -> None:
    """Measure, and print the table."""
    print(f"Adds while {CLIENTS} clients search, {pairs:,} pairs at first, {adds:,} adds; {machine()}")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as started:
        source, folder = Path(scratch, "source"), Path(scratch, "kb")
        source.mkdir()
        write_source(source, pairs)
        subprocess.run([PROGRAM, "build", source, folder], check=True, capture_output=True)
        stub = serve(folder, Path(scratch, "log"), started)
        other = serve(folder, Path(scratch, "other log"), started)
        alone, beside = Searches(), Searches()
        adding = Adding(stub, other)
        for turn in range(TURNS):
            with searching(stub, alone, turn):
                time.sleep(TURN_SECONDS)
            with searching(stub, beside, TURNS + turn):
                for number in range(turn * adds // TURNS, (turn + 1) * adds // TURNS):
                    adding.add(number)
        print(f"{'searches':32}{'p50 ms':>10}{'p95 ms':>10}{'a second':>12}{'failed':>10}")
        print(alone.row("undisturbed"))
        print(beside.row("while pairs are added"))
        p95 = [statistics.quantiles(seen.milliseconds, n=20)[-1] for seen in (alone, beside)]
        print(f"p95 beside adds is {p95[1] / p95[0]:.2f} times that of undisturbed searches")
        added = statistics.median(adding.milliseconds), statistics.quantiles(adding.milliseconds, n=20)[-1]
        print(f"an add takes {added[0]:.0f} ms (p95 {added[1]:.0f} ms); {adds:,} adds, {adding.stale:,} stale searches")
        if adding.stale or alone.failed or beside.failed:
            raise SystemExit(1)


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(PAIRS, ADDS)[len(given) :])
