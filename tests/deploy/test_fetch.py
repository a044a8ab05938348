"""The program that gives the writing retriever its first base."""

import subprocess
import sys
from pathlib import Path

import pytest

FETCH = Path(__file__).resolve().parents[2] / "deploy/kubernetes/components/writer/fetch.py"


def fetch(folder: Path) -> None:
    subprocess.run([sys.executable, FETCH, folder], check=True)


def test_the_base_is_copied_once_and_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    (store / "lucene").mkdir(parents=True)
    (store / "base.json").write_text("{}")
    (store / "lucene/_0.cfs").write_bytes(b"index")
    monkeypatch.setenv("REIMAGEN_RETRIEVER_KNOWLEDGE_BASE", store.as_uri())
    base = tmp_path / "volume/base"
    # What an earlier attempt left when it was killed.
    base.with_name("partial").mkdir(parents=True)
    (base.with_name("partial") / "torn").touch()
    fetch(base)
    copied = {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}
    assert copied == {"base.json": b"{}", "lucene/_0.cfs": b"index"}
    # Pairs that were added since are not replaced by the snapshot.
    (base / "base.json").write_text("changed")
    fetch(base)
    assert (base / "base.json").read_text() == "changed"
    assert [path.name for path in base.parent.iterdir()] == ["base"]
