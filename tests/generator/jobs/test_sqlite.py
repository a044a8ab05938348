"""What only the store of jobs in a folder does; test_store.py has the rest."""

import sqlite3
from pathlib import Path

import pytest

from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_generator.jobs.sqlite import SqliteJobStore
from reimagen_generator.jobs.store import Status
from tests.job_stores import DAY, grounded, new


def test_what_is_added_is_synced(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    store.add(new(), capacity=1)
    assert store._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert sqlite3.connect(tmp_path / "jobs.sqlite3").execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    store.close()


def test_files_that_a_crash_or_an_expired_job_left_are_deleted(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path, retention_seconds=-1)
    job = store.add(new(references=1), capacity=9)
    store.finish(job.id, Status.CANCELLED)
    assert store.delete_expired() == 1
    assert not (tmp_path / "files" / job.id).exists()
    store.close()
    (tmp_path / "files" / "job_of_a_crash").mkdir()
    SqliteJobStore(tmp_path, retention_seconds=DAY).close()
    assert not (tmp_path / "files" / "job_of_a_crash").exists()


def test_a_folder_has_one_user(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    with pytest.raises(InvalidArgument, match="another process uses it"):
        SqliteJobStore(tmp_path, retention_seconds=DAY)
    store.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match=r"^jobs: cannot keep jobs in "):
        SqliteJobStore(tmp_path / "file", retention_seconds=DAY)
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(InvalidArgument, match=r"^jobs: cannot keep jobs in "):
        SqliteJobStore(tmp_path, retention_seconds=DAY)


def test_a_store_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    store.close()
    with pytest.raises(Unavailable, match="folder of jobs"):
        store.add(new(), capacity=9)


def test_version_1_is_upgraded_with_the_uses_of_its_pairs(tmp_path: Path) -> None:
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    job_id = grounded(store, "one", ["fox", "kea"])
    store.finish(job_id, Status.COMPLETED)
    store._database.executescript("DROP TABLE grounded; PRAGMA user_version = 1")
    store.close()
    store = SqliteJobStore(tmp_path, retention_seconds=DAY)
    assert [use.job_id for use in store.uses("fox", limit=9)] == [job_id]
    store.close()
