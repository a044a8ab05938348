"""A change of a job in Redis."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from reimagen.v1 import generation_pb2 as pb
from reimagen_generator.jobs import redis_keys as keys
from reimagen_generator.jobs import transitions
from reimagen_generator.jobs.store import Status


@dataclass
class Change:
    """A change of a job, in a transaction."""

    pipe: Any
    """The pipeline of the transaction, which takes further writes."""
    number: int
    """The number of the job."""
    request: str | bytes
    """Fields of the request as JSON."""
    message: pb.Job
    """The message to change."""
    event: pb.JobEvent = field(default_factory=pb.JobEvent)
    """The event of the change."""
    gap: int = 0
    """Number of ids of events that are skipped before it."""

    def remember_pairs(self) -> None:
        """Add the job to the uses of its pairs."""
        for key in self._pairs():
            self.pipe.zadd(key, {self.message.id: self.number})

    def forget_pairs(self) -> None:
        """Remove the job from the uses of its pairs."""
        for key in self._pairs():
            self.pipe.zrem(key, self.message.id)

    def write(self, *, last: int) -> None:
        """Store the message, and the event with the next id after `last`."""
        job_id, status = self.message.id, Status(self.message.status)
        self.event.id = last + 1 + self.gap
        self.event.time = time.time()
        message = self.message.SerializeToString()
        self.pipe.hset(keys.job(job_id), mapping={"message": message, "last": self.event.id})
        self.pipe.xadd(keys.events(job_id), {"event": self.event.SerializeToString()}, id=f"{self.event.id}-0")
        for key, holds, score in (
            (keys.QUEUED, status is Status.QUEUED, self.number),
            (keys.RUNNING, status is Status.RUNNING, self.number),
            (keys.ENDED, status.finished, self.message.expires_at),
        ):
            if holds:
                self.pipe.zadd(key, {job_id: score})
            else:
                self.pipe.zrem(key, job_id)

    def _pairs(self) -> list[str]:
        return list(map(keys.grounded, transitions.grounded_pairs(json.loads(self.request), self.message.neighbors)))
