"""Retrieval over gRPC: latency uncached and cached, throughput, and the service's peak memory.

The script builds a knowledge base of captions like the demonstration's, with a given number of pairs, serves it with
`reimagen-retriever serve` in a separate process with Redis, and prints a table.

    python -m benchmarks.retrieval [PAIRS]
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from benchmarks.shared.machine import machine, peak_megabytes
from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_common.local_redis import LocalRedis
from reimagen_demo.stack.running import RetrieverProcess

PROGRAM = Path(sys.executable).with_name("reimagen-retriever")
PAIRS = 3_000
QUERIES = 1_000
CALLERS = 8
ENTITY_WORDS = 2_000
SCENES = ("in the snow", "on the beach", "in the city at night", "under water", "in a forest", "on a stage")


def words() -> list[str]:
    """Return made-up words; some are frequent and some rare, like real words."""
    rng = random.Random(0)  # noqa: S311
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    return ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(ENTITY_WORDS)]


def write_source(folder: Path, pairs: int) -> None:
    """Write a source with one image of about 60 KiB, the size of an icon of 256 pixels, under many captions."""
    noise = np.random.default_rng(0).integers(0, 256, (144, 144, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((256, 256), Image.Resampling.NEAREST).save(folder / "image.png")
    vocabulary, rng = words(), random.Random(1)  # noqa: S311
    with (folder / "captions.jsonl").open("w") as lines:
        for number in range(pairs):
            caption = "a " + " ".join(rng.choices(vocabulary, k=rng.randint(1, 3)))
            lines.write(json.dumps({"image": "image.png", "text": caption, "id": f"{number:09d}"}) + "\n")


def milliseconds(
    call: Callable[[pb.SearchRequest], pb.SearchResponse], requests: list[pb.SearchRequest]
) -> list[float]:
    """Return the milliseconds of each call, one after the other."""
    taken = []
    for request in requests:
        started = time.perf_counter()
        call(request)
        taken.append((time.perf_counter() - started) * 1e3)
    return taken


def calls_a_second(call: Callable[[pb.SearchRequest], pb.SearchResponse], requests: list[pb.SearchRequest]) -> float:
    """Return the calls per second of several concurrent callers."""
    started = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        for _ in pool.map(call, requests):
            pass
    return len(requests) / (time.perf_counter() - started)


def beside_an_empty_call(search: Callable[[pb.SearchRequest], pb.SearchResponse], folder: Path) -> None:
    """Print the ratio of a search with images to a call of equal message size that does nothing, in turns."""
    requests = [pb.SearchRequest(query=query, minimum_score=0) for query in queries(QUERIES, seed=3)]
    message = folder / "response"
    message.write_bytes(search(pb.SearchRequest(query=queries(1, seed=4)[0], minimum_score=0)).SerializeToString())
    command = [sys.executable, "-m", "benchmarks.shared.empty_service", str(message)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
            empty = RetrievalStub(channel).Search
            milliseconds(empty, requests[:100])
            for state in ("uncached", "cached"):
                taken: dict[str, list[float]] = {"empty": [], "search": []}
                for request in requests:
                    taken["empty"] += milliseconds(empty, [request])
                    taken["search"] += milliseconds(search, [request])
                nothing, all_of_it = (statistics.median(each) for each in taken.values())
                print(f"{f'{state}, over an empty call':32}{all_of_it / nothing:9.2f}x  ({nothing:.2f} ms)")
        process.communicate()


def queries(count: int, seed: int) -> list[str]:
    """Return prompts of the form entity + scene."""
    vocabulary, rng = words(), random.Random(seed)  # noqa: S311
    return [f"a {' '.join(rng.sample(vocabulary, 2))} {rng.choice(SCENES)}" for _ in range(count)]


def main(pairs: int) -> None:
    """Measure, and print the table."""
    print(f"Retrieval over gRPC, {pairs:,} pairs, k = 2, {QUERIES:,} prompts; {machine()}")
    with tempfile.TemporaryDirectory() as folder, LocalRedis() as redis_server:
        source = Path(folder, "source")
        source.mkdir()
        write_source(source, pairs)
        started = time.perf_counter()
        subprocess.run([PROGRAM, "build", source, Path(folder, "kb")], check=True, capture_output=True)
        print(f"built in {time.perf_counter() - started:.1f} s")
        with (
            RetrieverProcess(Path(folder, "kb"), redis_server.url, Path(folder)) as retriever,
            grpc.insecure_channel(retriever.address) as channel,
        ):
            retriever.wait()
            call = RetrievalStub(channel).Search
            print(f"{'':32}{'p50 ms':>10}{'p95 ms':>10}{f'{CALLERS} callers, /s':>18}")
            for seed, (name, omit) in enumerate((("with images", False), ("without images", True)), start=1):
                # With minimum_score 0 nearly every prompt finds two pairs. `many` has other prompts, new to the cache.
                one = [pb.SearchRequest(query=q, omit_images=omit, minimum_score=0) for q in queries(QUERIES, seed)]
                many = [pb.SearchRequest(query=q, omit_images=omit, minimum_score=0) for q in queries(QUERIES, -seed)]
                for state in ("uncached", "cached"):
                    taken = milliseconds(call, one)
                    p95 = statistics.quantiles(taken, n=20)[-1]
                    rate = calls_a_second(call, many)
                    print(f"{f'{state}, {name}':32}{statistics.median(taken):10.2f}{p95:10.2f}{rate:18,.0f}")
            beside_an_empty_call(call, Path(folder))
            print(f"the retriever's peak memory: {peak_megabytes(retriever.process):,.0f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
