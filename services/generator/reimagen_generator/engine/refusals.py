"""Refusals of requests on arrival, before any work is done for them."""

import math
from collections.abc import Collection
from typing import Final

from reimagen_common.errors import DeadlineExceeded, Overloaded
from reimagen_generator.engine.backlog import Backlog
from reimagen_generator.engine.image_row import Request

# Share of the slots that one API key may hold, so that others can be admitted.
_CALLER_SHARE: Final = 0.5


def share_of_caller(slots: int) -> int:
    """Return the number of slots that one API key may hold."""
    return max(1, int(_CALLER_SHARE * slots))


def refuse_greedy(request: Request, others: Collection[Request], slots: int) -> None:
    """Check that the API key of a request holds less than its share of the slots.

    Raises:
        Overloaded: It holds its share.
    """
    caller = request.work.caller
    held = sum(other.work.caller == caller for other in others)
    if caller and held >= share_of_caller(slots):
        raise Overloaded(
            f"{held} requests of this API key are being drawn or waiting; try again later",
            retry_after=math.ceil(Backlog.of(others).seconds_per_request),
        )


def refuse_late(request: Request, others: Collection[Request]) -> None:
    """Check that a request can be finished before its deadline, and leaves the admitted ones time for theirs.

    Raises:
        DeadlineExceeded: It would take too long even alone.
        Overloaded: The backlog is too long.
    """
    remaining = request.handle.remaining()
    if request.alone > remaining:
        raise DeadlineExceeded(
            f"drawing takes about {request.alone:.1f} seconds, but the deadline is in {remaining:.1f} seconds"
        )
    if not others:
        return
    backlog = Backlog.of([*others, request])
    finishes = backlog.finishes()
    seconds = finishes[request]
    if seconds > remaining:
        raise Overloaded(
            f"the images would be finished in about {seconds:.1f} seconds, but the deadline is in {remaining:.1f} "
            "seconds; try again later",
            retry_after=math.ceil(seconds - remaining),
        )
    before = Backlog.of(others).finishes()
    for other in others:
        left = other.handle.remaining()
        if before[other] <= left < finishes[other]:
            raise Overloaded(
                "an admitted request would miss its deadline; try again later",
                retry_after=math.ceil(backlog.seconds_per_request),
            )
