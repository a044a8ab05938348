"""Counts of what became of requests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counters:
    """How many requests have ended in each way since the start, and how many steps were taken."""

    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    deadline_exceeded: int = 0
    refused: int = 0
    steps: int = 0
