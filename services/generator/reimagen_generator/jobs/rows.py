"""The tables of the SQLite database of jobs, and the conversion of their rows."""

import json
import sqlite3
import time
from itertools import islice
from typing import Any, Final

from reimagen.v1 import generation_pb2 as pb
from reimagen_generator.jobs import transitions
from reimagen_generator.jobs.store import Status, StoredJob, Use

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    status INTEGER NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    expires REAL,
    key TEXT,
    digest TEXT,
    request TEXT NOT NULL,
    message BLOB NOT NULL,
    UNIQUE (owner, key)
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (finished, status, number);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, number);
CREATE TABLE IF NOT EXISTS events (
    job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    id INTEGER NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (job, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grounded (
    pair TEXT NOT NULL,
    job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    PRIMARY KEY (pair, job)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS grounded_by_job ON grounded (job);
"""
VERSION: Final = 2
"""Version of the tables."""


def row(database: sqlite3.Connection, job_id: str, owner: str) -> Any:
    """Return the row of a job: number, owner, request, message and attempts.

    Raises:
        NotFound: The owner has no such job, or it has expired.
    """
    row = database.execute(
        "SELECT number, owner, request, message, attempts FROM jobs "
        "WHERE id = ? AND owner = ? AND (expires IS NULL OR expires > ?)",
        (job_id, owner, time.time()),
    ).fetchone()
    if row is None:
        raise transitions.not_found()
    return row


def job(database: sqlite3.Connection, row: Any) -> StoredJob:
    """Return the job of a row, with its position in the queue."""
    number, owner, request, blob, attempts = row
    message = pb.Job.FromString(blob)
    if message.status == Status.QUEUED.value:
        (message.position,) = database.execute(
            "SELECT count(*) FROM jobs WHERE finished = 0 AND status = ? AND number <= ?", (message.status, number)
        ).fetchone()
    return StoredJob(owner=owner, request=json.loads(request), message=message, attempts=attempts)


def running(database: sqlite3.Connection, job_id: str) -> tuple[int, pb.Job] | None:
    """Return the number and the message of a job, or None if it does not run."""
    row = database.execute(
        "SELECT number, message FROM jobs WHERE id = ? AND status = ?", (job_id, Status.RUNNING.value)
    ).fetchone()
    return None if row is None else (row[0], pb.Job.FromString(row[1]))


def requeue(database: sqlite3.Connection, number: int, message: pb.Job, *, gap: int = 0) -> None:
    """Queue a job again and forget its images; the id of the event skips `gap` ids."""
    event = transitions.requeue(message)
    database.execute("DELETE FROM grounded WHERE job = ?", (number,))
    update(database, number, message)
    insert_event(database, number, event, gap=gap)


def update(database: sqlite3.Connection, number: int, message: pb.Job) -> None:
    """Store the message of a job."""
    database.execute(
        "UPDATE jobs SET status = ?, finished = ?, expires = ?, message = ? WHERE number = ?",
        (
            message.status,
            Status(message.status).finished,
            message.expires_at or None,
            message.SerializeToString(),
            number,
        ),
    )


def insert_pairs(database: sqlite3.Connection, number: int, neighbors: pb.GenerateEvent.Neighbors) -> None:
    """Store the ids of the pairs that a job is grounded on."""
    (request,) = database.execute("SELECT request FROM jobs WHERE number = ?", (number,)).fetchone()
    ids = transitions.grounded_pairs(json.loads(request), neighbors)
    database.executemany("INSERT OR IGNORE INTO grounded VALUES (?, ?)", [(each, number) for each in ids])


def uses(database: sqlite3.Connection, pair_id: str, limit: int) -> list[Use]:
    """Return the jobs that are grounded on a pair, newest first."""
    found = database.execute(
        "SELECT owner, message FROM jobs JOIN grounded ON job = number "
        "WHERE pair = ? AND (expires IS NULL OR expires > ?) ORDER BY number DESC",
        (pair_id, time.time()),
    )
    jobs = ((owner, pb.Job.FromString(message)) for owner, message in found)
    return list(islice((transitions.use(owner, job) for owner, job in jobs if transitions.is_kept(job)), limit))


def upgrade(database: sqlite3.Connection) -> None:
    """Fill the table of pairs, which version 1 did not have."""
    for number, message in database.execute("SELECT number, message FROM jobs").fetchall():
        insert_pairs(database, number, pb.Job.FromString(message).neighbors)


def insert_event(database: sqlite3.Connection, number: int | None, event: pb.JobEvent, *, gap: int = 0) -> None:
    """Store an event with the time and the next id of its job, after `gap` ids."""
    (last,) = database.execute("SELECT coalesce(max(id), 0) FROM events WHERE job = ?", (number,)).fetchone()
    event.id = last + 1 + gap
    event.time = time.time()
    database.execute("INSERT INTO events VALUES (?, ?, ?)", (number, event.id, event.SerializeToString()))
