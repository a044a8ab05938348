"""Slots for requests to an engine, which refuse on arrival what could not be finished in time."""

import math
from collections.abc import Collection

from reimagen_common.errors import DeadlineExceeded, Overloaded
from reimagen_generator.engine.backlog import Backlog
from reimagen_generator.engine.image_row import Request
from reimagen_generator.engine.slots import Slots


def engine_slots(number: int) -> Slots[Request]:
    """Return the slots of an engine, all free."""
    return Slots(number, lambda requests: Backlog.of(requests).seconds_per_request, _refuse_late)


def _refuse_late(request: Request, others: Collection[Request]) -> None:
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
