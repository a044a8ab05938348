"""A service in one process and in two: searches per second, and processor time per search.

The script builds a knowledge base of captions like the demonstration's, with a given number of pairs. It serves it
without Redis with `reimagen-retriever serve --processes`, alternating between one and two processes. Two client
processes search as fast as they get answers, with one connection per thread.

    python -m benchmarks.processes [PAIRS]
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import grpc

from benchmarks.retrieval import PAIRS, PROGRAM, queries, write_source
from benchmarks.shared.machine import machine
from benchmarks.shared.service import ready_address
from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub

ROUNDS = 3
CLIENT_PROCESSES = 2
CONNECTIONS = 8  # of each client process
SEARCHES = 100  # on each connection


def ask(address: str, seed: int) -> None:
    """Search on one connection, one query after the other."""
    # By default all channels of a process to one address share a connection, and thus a process of the service.
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        search = RetrievalStub(channel).Search
        for query in queries(SEARCHES, seed):
            search(pb.SearchRequest(query=query, minimum_score=0), timeout=60)


def client(address: str, number: int) -> None:
    """Run the searches of one client process."""
    seeds = range(number * CONNECTIONS, (number + 1) * CONNECTIONS)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(ask, repeat(address), seeds))


def processor_seconds(pid: int) -> float:
    """Return the processor seconds of a process and its descendants."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return 0.0
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(int(child)) for child in children)


def measure(base: Path, log: Path, processes: int) -> tuple[float, float]:
    """Return the searches per second, and the service's milliseconds of processor time per search."""
    command = [PROGRAM, "serve", base, "--grpc", "127.0.0.1:0", "--processes", str(processes)]
    with log.open("w") as stderr:
        service = subprocess.Popen([str(part) for part in command], stderr=stderr)
    try:
        address = ready_address(service, log)
        with multiprocessing.get_context("spawn").Pool(CLIENT_PROCESSES) as pool:
            clients = [(address, number) for number in range(CLIENT_PROCESSES)]
            pool.starmap(client, clients)  # warms up Java's compiler
            used, started = processor_seconds(service.pid), time.perf_counter()
            pool.starmap(client, clients)
            seconds = time.perf_counter() - started
            used = processor_seconds(service.pid) - used
        searches = CLIENT_PROCESSES * CONNECTIONS * SEARCHES
        return searches / seconds, used / searches * 1e3
    finally:
        service.terminate()
        service.wait()


def main(pairs: int) -> None:
    """Measure, and print the table."""
    print(f"One service in several processes, {pairs:,} pairs, k = 2 with images, uncached; {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        source, base = Path(folder, "source"), Path(folder, "kb")
        source.mkdir()
        write_source(source, pairs)
        subprocess.run([PROGRAM, "build", source, base], check=True, capture_output=True)
        found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for processes, measured in found.items():
                measured.append(measure(base, Path(folder, "log"), processes))
    print(f"{'processes':>9}{'searches/s':>12}{'processor ms a search':>24}   of each round")
    for processes, measured in found.items():
        rates, costs = zip(*measured, strict=True)
        each = ", ".join(f"{rate:,.0f}" for rate in rates)
        print(f"{processes:9}{statistics.median(rates):12,.0f}{statistics.median(costs):24.2f}   {each}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
