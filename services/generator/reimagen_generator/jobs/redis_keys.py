"""The keys of the jobs in Redis.

After a common prefix:

    epoch          which process uses the store: the last that opened it
    number         the number of the newest job
    queued         ids of queued jobs, by number
    running        ids of running jobs, by number
    ended          ids of finished jobs, by the time at which they expire
    owner:OWNER    ids of the owner's jobs, by number
    keys:OWNER     the owner's idempotency keys, with the ids of their jobs
    job:ID         a hash of the job's fields
    events:ID      a stream of the job's events
    files:ID       a hash of the job's image files, by name
    grounded:PAIR  ids of the jobs that are grounded on a pair, by number
"""

from typing import Final

_PREFIX: Final = "reimagen:jobs:"
EPOCH: Final = f"{_PREFIX}epoch"
NUMBER: Final = f"{_PREFIX}number"
QUEUED: Final = f"{_PREFIX}queued"
RUNNING: Final = f"{_PREFIX}running"
ENDED: Final = f"{_PREFIX}ended"


def owned(owner: str) -> str:
    """Return the key of the ids of an owner's jobs."""
    return f"{_PREFIX}owner:{owner}"


def idempotency(owner: str) -> str:
    """Return the key of an owner's idempotency keys."""
    return f"{_PREFIX}keys:{owner}"


def job(job_id: str) -> str:
    """Return the key of a job's fields."""
    return f"{_PREFIX}job:{job_id}"


def events(job_id: str) -> str:
    """Return the key of a job's events."""
    return f"{_PREFIX}events:{job_id}"


def files(job_id: str) -> str:
    """Return the key of a job's image files."""
    return f"{_PREFIX}files:{job_id}"


def grounded(pair_id: str) -> str:
    """Return the key of the ids of the jobs that are grounded on a pair."""
    return f"{_PREFIX}grounded:{pair_id}"
