"""Replicas of one snapshot, and the generator's client, which balances load over them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image

from reimagen_generator.generation.retriever_client import RetrieverClient
from tests.waiting import LoggedProcess, wait_until

PROGRAM = Path(sys.executable).with_name("reimagen-retriever")
SECONDS = 240
SEARCHES = 400


@dataclass
class Replica:
    process: subprocess.Popen[str]
    address: str
    http: str

    def searched(self) -> int:
        """Return the number of searches of its index."""
        reported = httpx.get(f"http://{self.http}/metrics").text
        found = re.search(r"^reimagen_retriever_index_searches_total (\S+)$", reported, re.MULTILINE)
        return int(float(found[1])) if found else 0


@contextmanager
def serving(base: Path) -> Iterator[Replica]:
    options = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with LoggedProcess([PROGRAM, "serve", base, *options]) as process:
        ready = process.wait_for_line(r"msg=ready .*grpc=(\S+).* http=(\S+)")
        yield Replica(process.popen, ready[1], ready[2])


@pytest.fixture
def snapshots(tmp_path: Path) -> list[Path]:
    """Make two copies of one snapshot."""
    source = tmp_path / "source"
    source.mkdir()
    for name, color in (("fox", "red"), ("kea", "green")):
        Image.new("RGB", (24, 16), color).save(source / f"{name}.png")
        (source / f"{name}.txt").write_text(f"a {name}")
    subprocess.run([PROGRAM, "build", source, tmp_path / "kb"], check=True, capture_output=True)
    copies = [tmp_path / "one", tmp_path / "two"]
    for copy in copies:
        subprocess.run([PROGRAM, "snapshot", tmp_path / "kb", copy], check=True, capture_output=True)
    return copies


def test_searches_go_to_all_replicas_and_none_fails_when_one_is_killed(snapshots: list[Path]) -> None:
    with serving(snapshots[0]) as one, serving(snapshots[1]) as two:
        retriever = RetrieverClient(f"ipv4:{one.address},{two.address}")

        def search(number: int) -> tuple[str, str]:
            if number == SEARCHES // 2:
                one.process.kill()
            found = retriever.search(f"a kea {number}", k=1, method="bm25", remaining=60)
            return found.neighbors[0].id, found.revision

        def both_searched() -> bool:
            search(-1)
            return one.searched() > 0 and two.searched() > 0

        wait_until(both_searched)  # once both are connected, each gets every other search
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(search, range(SEARCHES)))
        assert one.process.wait(SECONDS) == -9
        assert {identifier for identifier, _ in answers} == {"kea"}
        assert len({revision for _, revision in answers}) == 1
        retriever.close()
