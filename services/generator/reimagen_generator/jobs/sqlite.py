"""A store of jobs in a folder: an SQLite database, and the image files beside it."""

import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO

from reimagen.v1 import generation_pb2 as pb
from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_common.sqlite import transaction
from reimagen_generator.jobs import rows, transitions
from reimagen_generator.jobs.files import JobFiles
from reimagen_generator.jobs.store import JobPage, NewJob, Status, StoredJob, Use, new_id


class SqliteJobStore:
    """A store of jobs in a folder, which one process uses at a time."""

    def __init__(self, folder: Path, *, retention_seconds: float) -> None:
        """Open the store, create it if it is missing, and queue the jobs again that were interrupted.

        Args:
            folder: The folder of the store.
            retention_seconds: Time for which ended jobs are kept.

        Raises:
            InvalidArgument: The folder cannot be used, or another process uses it.
        """
        self._retention_seconds = retention_seconds
        self._lock = threading.Lock()
        try:
            with ExitStack() as stack:
                self._files = JobFiles(folder / "files")
                self._folder_lock = stack.enter_context(_lock(folder / "lock"))
                self._database = stack.enter_context(closing(_connect(folder / "jobs.sqlite3")))
                self._create(folder)
                self._recover()
                stack.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise InvalidArgument(f"cannot keep jobs in {folder}: {error}", field="jobs") from error

    def add(self, new: NewJob, *, capacity: int) -> StoredJob:
        """Store a job durably and return it, or return the job that the owner added earlier with the same key."""
        job_id = new_id()
        earlier = self._with_key(new)
        if earlier is not None:
            return earlier
        message = transitions.new_message(job_id)
        with self._writing():
            # Files first: a job that is stored is complete.
            for index, image in enumerate(new.references):
                self._files.write(job_id, transitions.reference_name(index), image)
        try:
            with self._transaction() as database:
                (count,) = database.execute("SELECT count(*) FROM jobs WHERE finished = 0").fetchone()
                transitions.refuse_if_full(count, capacity)
                number = database.execute(
                    "INSERT INTO jobs (id, owner, status, key, digest, request, message) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        job_id,
                        new.owner,
                        message.status,
                        new.key and new.key.text,
                        new.key and new.key.digest,
                        json.dumps(new.request),
                        message.SerializeToString(),
                    ),
                ).lastrowid
                rows.insert_event(database, number, pb.JobEvent(id=1, status=message.status))
        except sqlite3.IntegrityError:  # Another request with the same key was faster.
            self._files.delete(job_id)
            again = self._with_key(new)
            assert again is not None
            return again
        except BaseException:
            self._files.delete(job_id)
            raise
        return self.get(job_id, new.owner)

    def get(self, job_id: str, owner: str) -> StoredJob:
        """Return a job, with its position in the queue."""
        with self._reading() as database:
            return rows.job(database, rows.row(database, job_id, owner))

    def page(self, owner: str, *, limit: int, after: str | None, status: Status | None) -> JobPage:
        """Return the owner's jobs, newest first."""
        with self._reading() as database:
            before = rows.row(database, after, owner)[0] if after else None
            found = database.execute(
                "SELECT number, owner, request, message, attempts FROM jobs "
                "WHERE owner = :owner AND (expires IS NULL OR expires > :now) "
                "AND (:before IS NULL OR number < :before) AND (:status IS NULL OR status = :status) "
                "ORDER BY number DESC LIMIT :limit",
                {
                    "owner": owner,
                    "now": time.time(),
                    "before": before,
                    "status": status and status.value,
                    "limit": limit + 1,
                },
            ).fetchall()
            return JobPage([rows.job(database, row) for row in found[:limit]], has_more=len(found) > limit)

    def unfinished(self) -> int:
        """Return the number of unfinished jobs of all owners."""
        with self._reading() as database:
            count: int = database.execute("SELECT count(*) FROM jobs WHERE finished = 0").fetchone()[0]
            return count

    def oldest(self, *, excluding: Collection[str]) -> StoredJob | None:
        """Return the oldest queued job without some, by their ids."""
        with self._reading() as database:
            found = database.execute(
                "SELECT number, owner, request, message, attempts FROM jobs WHERE finished = 0 AND status = ? "
                "ORDER BY number LIMIT ?",
                (Status.QUEUED.value, len(excluding) + 1),
            ).fetchall()
            jobs = (rows.job(database, row) for row in found)
            return next((job for job in jobs if job.id not in excluding), None)

    def start(self, job_id: str) -> bool:
        """Set a queued job to running. Return whether it was queued."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT number, message FROM jobs WHERE id = ? AND status = ?", (job_id, Status.QUEUED.value)
            ).fetchone()
            if row is None:
                return False
            message = pb.Job.FromString(row[1])
            event = transitions.start(message)
            database.execute("UPDATE jobs SET attempts = attempts + 1 WHERE number = ?", (row[0],))
            rows.update(database, row[0], message)
            rows.insert_event(database, row[0], event)
            return True

    def requeue(self, job_id: str) -> None:
        """Queue a running job again and forget its images."""
        with self._transaction() as database:
            found = rows.running(database, job_id)
            if found is not None:
                rows.requeue(database, *found)
                # Attempts count crashes. This is no crash.
                database.execute("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", (job_id,))

    def references(self, job_id: str) -> list[bytes]:
        """Return the image files of a job's references."""
        with self._reading() as database:
            (request,) = database.execute("SELECT request FROM jobs WHERE id = ?", (job_id,)).fetchone()
        count = len(json.loads(request).get("references", ()))
        return [self._files.read(job_id, transitions.reference_name(number)) for number in range(count)]

    def add_event(self, job_id: str, event: pb.JobEvent) -> None:
        """Store an event of a running job. It is safe from a crash of the process, but not from a loss of power."""
        with self._transaction(durable=False) as database:
            found = rows.running(database, job_id)
            if found is None:
                return
            number, message = found
            transitions.add_event(message, event)
            if event.WhichOneof("event") == "neighbors":
                rows.insert_pairs(database, number, event.neighbors)
            rows.update(database, number, message)
            rows.insert_event(database, number, event)

    def add_image(self, job_id: str, image: pb.GenerateEvent.Image) -> None:
        """Store a finished image of a running job durably, with its event."""
        with self._writing():
            self._files.write(job_id, transitions.image_name(image.index), image.image)
        with self._transaction() as database:
            found = rows.running(database, job_id)
            if found is None:
                return
            number, message = found
            event = transitions.add_image(message, image)
            rows.update(database, number, message)
            rows.insert_event(database, number, event)

    def finish(
        self, job_id: str, status: Status, *, usage: pb.Usage | None = None, error: pb.JobError | None = None
    ) -> bool:
        """End an unfinished job durably. Return whether it was unfinished."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT number, message FROM jobs WHERE id = ? AND finished = 0", (job_id,)
            ).fetchone()
            if row is None:
                return False
            message = pb.Job.FromString(row[1])
            event = transitions.finish(
                message, status, retention_seconds=self._retention_seconds, usage=usage, error=error
            )
            rows.update(database, row[0], message)
            rows.insert_event(database, row[0], event)
            return True

    def events(self, job_id: str, owner: str, *, after: int) -> list[pb.JobEvent]:
        """Return some events of a job after the one with the id `after`, in order."""
        with self._reading() as database:
            number = rows.row(database, job_id, owner)[0]
            found = database.execute(
                "SELECT event FROM events WHERE job = ? AND id > ? ORDER BY id LIMIT ?",
                (number, after, transitions.EVENTS),
            ).fetchall()
        return [pb.JobEvent.FromString(event) for (event,) in found]

    def image(self, job_id: str, owner: str, index: int) -> pb.GenerateEvent.Image:
        """Return a finished image of a job with its file."""
        job = self.get(job_id, owner)
        image = transitions.find_image(job.message, index)
        try:
            image.image = self._files.read(job_id, transitions.image_name(index))
        except FileNotFoundError as error:
            raise transitions.expired() from error
        return image

    def uses(self, pair_id: str, *, limit: int) -> list[Use]:
        """Return the jobs of all owners that are grounded on a pair, newest first."""
        with self._reading() as database:
            return rows.uses(database, pair_id, limit)

    def delete_expired(self) -> int:
        """Delete jobs that have expired, and return their number."""
        with self._transaction() as database:
            found = database.execute(
                "DELETE FROM jobs WHERE expires IS NOT NULL AND expires <= ? RETURNING id", (time.time(),)
            ).fetchall()
        for (job_id,) in found:
            self._files.delete(job_id)
        return len(found)

    def close(self) -> None:
        """Close the database and release the folder."""
        with self._lock:
            self._database.close()
        self._folder_lock.close()

    def _create(self, folder: Path) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA foreign_keys = ON")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, 1, rows.VERSION):
            raise InvalidArgument(f"{folder} is of version {version}, but must be of {rows.VERSION}", field="jobs")
        self._database.executescript(rows.SCHEMA)
        with self._transaction() as database:
            if version == 1:
                rows.upgrade(database)
            database.execute(f"PRAGMA user_version = {rows.VERSION}")

    def _recover(self) -> None:
        with self._transaction() as database:
            running = database.execute(
                "SELECT number, message FROM jobs WHERE finished = 0 AND status = ?", (Status.RUNNING.value,)
            ).fetchall()
            for number, message in running:
                rows.requeue(database, number, pb.Job.FromString(message), gap=transitions.GAP)
            ids = {job_id for (job_id,) in database.execute("SELECT id FROM jobs")}
        self._files.keep_only(ids)

    def _with_key(self, new: NewJob) -> StoredJob | None:
        """Return the job that the owner added earlier with the same key."""
        if new.key is None:
            return None
        with self._reading() as database:
            row = database.execute(
                "SELECT id, digest FROM jobs WHERE owner = ? AND key = ?", (new.owner, new.key.text)
            ).fetchone()
            if row is None:
                return None
            transitions.check_key(new.key, row[1])
            return rows.job(database, rows.row(database, row[0], new.owner))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._writing():
            yield self._database

    @contextmanager
    def _transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        with self._lock, self._writing():
            self._database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with transaction(self._database) as database:
                yield database

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(
                f"the folder of jobs cannot be used: {error}", retry_after=transitions.RETRY_SECONDS
            ) from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _lock(path: Path) -> IO[str]:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OSError("another process uses it; give each process a folder of its own") from error
    return file
