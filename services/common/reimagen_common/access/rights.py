"""Rights, and tables that say which right each route or RPC requires."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class Right(StrEnum):
    """What a key allows."""

    READ = "read"
    """Search, read pairs, list and describe models, read metrics."""
    GENERATE = "generate"
    """Generate images, and read those that this key generated."""
    WRITE = "write"
    """Add and remove pairs."""


OPEN: Final = None
"""The entry of a table for what needs no key."""

Rights = Mapping[str, Right | None]
"""The right that each route requires, such as that of `GET /v1/search`, or `OPEN`."""


def check_complete(rights: Mapping[str, object], existing: Iterable[str]) -> None:
    """Check that a table of rights has an entry for each existing route or RPC.

    Raises:
        ValueError: An entry is missing. A route that nobody thought of must not be open to everyone.
    """
    missing = sorted(set(existing) - rights.keys())
    if missing:
        raise ValueError(f"no right is assigned to {', '.join(missing)}; add them to the service's table of rights")
