"""Kill one of two nodes of a Ray cluster during a build: `make ray-recovery`.

Each node has one core and runs in a network namespace of its own. One is killed, with all its processes, while it
writes a shard. The base must then have the same pairs as one that is built without Ray. The exit status is 1 if not.
"""

import io
import os
import secrets
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.shared.machine import machine
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.knowledge_base.pair import StoredPair
from tests.waiting import wait_until
from tools.recovery.network import Machines, Running, enter_namespace

HEAD, WORKER = ("node-1", "10.213.0.31"), ("node-2", "10.213.0.32")
PORT: Final = 6379
SHARDS: Final = 12
SHARD_PAIRS: Final = 60
SIDE: Final = 512
TASK: Final = b"ray::write_shard"
"""Beginning of the title of a process that writes a shard."""
SECONDS: Final = 600.0
PROGRAMS: Final = Path(sys.executable).parent


def main() -> int:
    """Build with Ray while a node is killed, build without Ray, compare, and return the exit status."""
    enter_namespace("tools.recovery.ray_nodes", [])
    print(f"A Ray cluster of two nodes in network namespaces, {SHARDS} shards of {SHARD_PAIRS} pairs, on {machine()}")
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_worker_niceness": "0",
    }
    with tempfile.TemporaryDirectory(prefix="ray-nodes-") as temporary, Running() as running:
        folder = Path(temporary)
        write_source(folder / "source")
        start_nodes(folder, running)
        try:
            status = build_while_killing(folder, running)
        finally:
            kill_all(HEAD)
            kill_all(WORKER)
        subprocess.run(build_command(folder, "alone"), check=True, capture_output=True)
        same = status == 0 and pairs(folder / "spread") == pairs(folder / "alone")
        print(f"{'ok    ' if same else 'FAILED'}  exit status {status}; the same pairs as without Ray: {same}")
    return 0 if same else 1


def start_nodes(folder: Path, running: Running) -> None:
    """Start a cluster of two nodes with one core each."""
    machines = Machines()
    common = ["--block", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
    head = [
        f"--node-ip-address={HEAD[1]}",
        f"--port={PORT}",
        "--include-dashboard=false",
        f"--temp-dir={folder / 'ray'}",
    ]
    worker = [f"--node-ip-address={WORKER[1]}", f"--address={HEAD[1]}:{PORT}"]
    for (name, address), own in ((HEAD, ["--head", *head]), (WORKER, worker)):
        machines.add(name, address)
        running.start(name, [PROGRAMS / "ray", "start", *common, *own], stdout=True).wait_for_line(
            "Ray runtime started"
        )


def build_while_killing(folder: Path, running: Running) -> int:
    """Build with Ray, kill a node meanwhile, and return the exit status of the build."""
    build = running.start(HEAD[0], [*build_command(folder, "spread"), "--ray", f"{HEAD[1]}:{PORT}"])
    wait_until(lambda: written_shards(folder) > 0 and any(map(writes_shard, processes(WORKER))), SECONDS)
    written, start = written_shards(folder), time.monotonic()
    kill_all(WORKER)
    status = build.popen.wait(SECONDS)
    seconds = time.monotonic() - start
    print(f"{WORKER[0]} killed after {written} of {SHARDS} shards; the build ended {seconds:.0f} s later")
    if status:
        print(build.log)
    return status


def kill_all(node: tuple[str, str]) -> None:
    """Kill all processes of a node."""
    for pid in processes(node):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def build_command(folder: Path, name: str) -> list[str | Path]:
    """Return the command that builds a knowledge base of the source."""
    return [PROGRAMS / "reimagen-retriever", "build", folder / "source", folder / name]


def write_source(folder: Path) -> None:
    """Write shards with images that take a worker some seconds."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for position in range(SHARD_PAIRS):
                cells = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                file = io.BytesIO()
                Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG")
                for suffix, content in (("jpg", file.getvalue()), ("txt", f"thing {shard} {position}".encode())):
                    member = tarfile.TarInfo(f"{shard:05d}{position:04d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def written_shards(folder: Path) -> int:
    """Return how many shards of the base that is built with Ray are finished."""
    return len(list(folder.glob("spread/data-*/shards/*")))


def processes(node: tuple[str, str]) -> list[int]:
    """Return the processes in a node's namespace."""
    listed = subprocess.run(["ip", "netns", "pids", node[0]], check=True, capture_output=True, text=True).stdout
    return [int(pid) for pid in listed.split()]


def writes_shard(pid: int) -> bool:
    """Return whether a process writes a shard at this moment."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(TASK)
    except OSError:
        return False


def pairs(folder: Path) -> list[StoredPair]:
    """Return a base's pairs without the locations of their images, which differ with Ray."""
    base = KnowledgeBase.open(folder)
    found = [base.index.pair(document) for document in base.index.in_order()]
    base.close()
    return [pair.model_copy(update={"shard": "", "offset": 0}) for pair in found]


if __name__ == "__main__":
    sys.exit(main())
