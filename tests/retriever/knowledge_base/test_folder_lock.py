import os
import subprocess
import sys
from pathlib import Path

import pytest

from reimagen_common.errors import Unavailable
from reimagen_retriever.knowledge_base.folder_lock import Holder, locked


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    with (
        locked(tmp_path, Holder(work="the service", address="127.0.0.1:50051")),
        pytest.raises(Unavailable) as caught,
        locked(tmp_path, Holder(work="build")),
    ):
        pass
    reported = str(caught.value)
    assert reported.startswith(f"{tmp_path} is being written to by the service (pid {os.getpid()} on ")
    assert reported.endswith("; send changes to it with --address 127.0.0.1:50051)")


def test_a_released_lock_can_be_acquired_and_names_its_new_holder(tmp_path: Path) -> None:
    with locked(tmp_path, Holder(work="a long name of what is being done", address="127.0.0.1:50051")):
        pass
    with locked(tmp_path, Holder(work="build")):
        Holder.model_validate_json((tmp_path / ".lock").read_bytes())
        with (
            pytest.raises(Unavailable, match=r"by build \(pid \d+ on \S+ since [^;]+\)$"),
            locked(tmp_path, Holder(work="x")),
        ):
            pass


def test_a_waiter_gets_the_lock_when_its_holder_dies(tmp_path: Path) -> None:
    script = "\n".join(
        (
            "import sys, pathlib; from reimagen_retriever.knowledge_base.folder_lock import Holder, locked",
            "with locked(pathlib.Path(sys.argv[1]), Holder(work='other')): print('held', flush=True); sys.stdin.read()",
        )
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(Unavailable, match="by other"), locked(tmp_path, Holder(work="build")):
            pass
        other.kill()
        with locked(tmp_path, Holder(work="build"), wait_seconds=60):
            pass


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(Unavailable, match=r"cannot write to .*nowhere: No such file"),
        locked(tmp_path / "nowhere", Holder(work="build")),
    ):
        pass
