"""Check, in a trace of system calls, that a change is acknowledged only after all of its writes were synced.

After a SIGKILL, written data is still in the system's memory; only a power loss destroys data that was not synced.
Therefore a service runs under strace while a client adds, replaces and removes pairs, one request after the other. For
every answer the script checks that, before the first byte of it was sent,

- each file that the commit names had been synced after the last write to it: Lucene's, the shards, and the files that
  fingerprints and vectors are appended to;
- the file that names them, `segments_N`, had been synced, then renamed, and then its folder had been synced;
- the folder of a new shard, and of a new file that is appended to, had been synced.

It needs strace (a system package).

    python -m benchmarks.traces.acknowledgements [CALLS]
"""

import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from PIL import Image

from benchmarks.shared.service import ready_address
from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_demo.stack import encoder
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.vectors.make import make_vectors

PROGRAM = Path(sys.executable).with_name("reimagen-retriever")
CALLS = 40
KINDS = ("lucene", "shards", "fingerprints", "vectors")
"""Kinds of files, by the folder that they are in; the trace must contain each kind."""
_WRITES = ("write", "writev", "pwrite64", "pwritev", "ftruncate")
_SYNCS = ("fsync", "fdatasync")
_RENAMES = ("rename", "renameat", "renameat2")
_SENDS = ("sendmsg", "sendto", "write", "writev")
_LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")


@dataclass(frozen=True)
class SystemCall:
    """A system call, and the lines of the trace between which it was made."""

    name: str
    text: str
    began: int
    ended: int

    @property
    def path(self) -> str:
        """The path of the first file descriptor that the call names."""
        found = re.match(r"\d+<([^>]*)>", self.text)
        return found[1] if found else ""

    @property
    def worked(self) -> bool:
        """Whether the call succeeded."""
        return re.search(r"= -1 \w+", self.text) is None


@dataclass(frozen=True)
class Answered:
    """The client's request: the revision in the answer, and the files of the commit."""

    revision: str
    files: frozenset[str]


def calls(trace: Path) -> list[SystemCall]:
    """Return the system calls of a trace; calls that strace splits across lines are joined."""
    begun: dict[str, tuple[str, str, int]] = {}
    made = []
    for number, line in enumerate(trace.read_text(errors="replace").splitlines()):
        parts = _LINE.match(line)
        if not parts:
            continue
        pid, rest = parts["pid"], parts["rest"]
        resumed = _RESUMED.match(rest)
        if resumed:
            name, text, start = begun.pop(pid)
            made.append(SystemCall(name, text + resumed["rest"], start, number))
        elif "(" in rest and not rest.startswith(("+++", "---")):
            name, _, text = rest.partition("(")
            if text.endswith("<unfinished ...>"):
                begun[pid] = (name, text.removesuffix("<unfinished ...>"), number)
            else:
                made.append(SystemCall(name, text, number, number))
    return made


def faults(made: list[SystemCall], folder: Path, answered: Answered, seen: Counter[str]) -> Iterator[str]:
    """Yield what was not synced when an answer was sent; count the checks in `seen`."""
    sends = [
        call
        for call in made
        if call.name in _SENDS and answered.revision in call.text and "TCP" in call.text.split(">")[0] + ">"
    ]
    if not sends:
        yield f"{answered.revision}: its answer is not in the trace"
        return
    sent = min(call.began for call in sends)
    before = [call for call in made if call.began < sent and call.worked]
    synced = [call for call in before if call.name in _SYNCS and call.ended < sent]
    for name in sorted(answered.files):
        path = str(folder / name)
        written_as = re.sub(r"/segments_(\w+)$", r"/pending_segments_\1", path)
        writes = [call for call in before if call.name in _WRITES and call.path == written_as]
        if not writes:
            continue  # The file existed before the service was started.
        last = max(call.ended for call in writes)
        seen[_synced(Path(name).parent.name.partition("-")[0])] += 1
        if not any(call.path == written_as and call.began > last for call in synced):
            yield f"{answered.revision}: {name} was not synced after its last write"
        if written_as != path:
            renamed = [
                call for call in before if call.name in _RENAMES and f'{path}"' in call.text and call.ended < sent
            ]
            seen["commits renamed, and their folder synced then"] += 1
            if not renamed:
                yield f"{answered.revision}: {name} was not renamed"
            elif not any(call.path == str(Path(path).parent) and call.began > renamed[-1].ended for call in synced):
                yield f"{answered.revision}: the folder of {name} was not synced after it was renamed"
        made_new = [
            call for call in before if call.name == "openat" and f'"{path}"' in call.text and "O_CREAT" in call.text
        ]
        if path.endswith((".tar", "/added")) and made_new:
            seen["folders of new shards and of new files that are appended to synced"] += 1
            if not any(call.path == str(Path(path).parent) and call.began > made_new[-1].ended for call in synced):
                yield f"{answered.revision}: the folder of the new file {name} was not synced"


def _synced(kind: str) -> str:
    """Return the name of the check of a kind of file."""
    return f"files of {kind} synced after their last write"


def random_image(rng: random.Random) -> bytes:
    """Return the file of a small random image."""
    file = io.BytesIO()
    Image.frombytes("RGB", (48, 48), rng.randbytes(48 * 48 * 3)).save(file, "JPEG")
    return file.getvalue()


def change(stub: RetrievalStub, rng: random.Random, number: int) -> str:
    """Add, replace or remove some pairs; return the revision in the answer."""
    ids = [f"{rng.randrange(12)}" for _ in range(rng.randint(1, 4))]
    if number % 4 == 3:
        return stub.DeletePairs(pb.DeletePairsRequest(ids=dict.fromkeys([*ids, f"only {number - 1}"]))).revision
    requests = (
        pb.AddPairsRequest(id=identifier, caption=f"a kea {number}", image=random_image(rng))
        for identifier in dict.fromkeys([*ids, f"only {number}"])
    )
    return stub.AddPairs(requests).revision


def commit(folder: Path) -> frozenset[str]:
    """Return the files of the base's current commit: Lucene's, the shards, and those that are appended to."""
    base = KnowledgeBase.open(folder)
    names = {str(base.built.lucene_folder / name) for name in base.index.files()}
    names |= {str(base.built.shards_folder / shard.name) for shard in base.manifest.shards if shard.live}
    names |= {f"{base.built.folder}/{name}" for name in base.appended}
    base.close()
    return frozenset(names)


def main(count: int) -> None:
    """Run the service under strace, and check the trace."""
    strace = shutil.which("strace")
    if strace is None:
        raise SystemExit("strace is not installed; install the system package strace")
    rng = random.Random(0)  # noqa: S311
    with tempfile.TemporaryDirectory() as scratch:
        source, folder, trace, log = (Path(scratch).resolve() / name for name in ("source", "kb", "trace", "log"))
        source.mkdir()
        (source / "a.jpg").write_bytes(random_image(rng))
        (source / "a.txt").write_text("a fox")
        build(open_source(source), folder)
        make_vectors(folder, encoder.build(Path(scratch)))
        traced = ",".join({*_WRITES, *_SYNCS, *_RENAMES, *_SENDS, "openat"})
        options = ["-f", "-yy", "-s", "2000", "-e", f"trace={traced}", "-e", "signal=none", "-o", str(trace)]
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [strace, *options, PROGRAM, "serve", folder, "--grpc", "127.0.0.1:0"], stderr=stderr
            )
        try:
            with grpc.insecure_channel(ready_address(process, log)) as channel:
                stub = RetrievalStub(channel)
                answers = [Answered(change(stub, rng, number), commit(folder)) for number in range(count)]
        finally:
            # Kills the service, and so ends strace; the first line of the trace has the service's process id.
            os.kill(int(trace.read_text(errors="replace").split(maxsplit=1)[0]), signal.SIGKILL)
            process.wait()
        made = calls(trace)
        seen = Counter({_synced(kind): 0 for kind in KINDS})
        found = [fault for answered in answers for fault in faults(made, folder, answered, seen)]
        found += [f"the trace has no {what}" for what, number in seen.items() if not number]
    print(f"{len(answers)} acknowledged calls, {len(made):,} system calls in the trace, in which were checked")
    for what, number in seen.items():
        print(f"  {number:,} {what}")
    print(*found or ["every answer was sent after all that it promises had been synced"], sep="\n")
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS)
