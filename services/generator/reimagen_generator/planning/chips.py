"""What a chip can do at most, and slices of chips by name."""

import math
import re
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """The peaks of one chip, as its maker states them."""

    name: str
    memory: float
    """Bytes of HBM that a program may use, as the compiler counts them."""
    flops: float
    """bfloat16, a second."""
    bandwidth: float
    """Bytes a second from and to HBM."""
    link: float
    """Bytes a second that a chip sends to one neighbor."""
    host: tuple[int, int, int]
    """Chips of one host along each side of a slice."""
    cores: str | None = None
    """How two cores are used as one device, in the compiler's words; None for a chip of one core."""


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 30.75 * GIB, 275e12, 1.2e12, 45e9, (2, 2, 1), "megacore"),
        Chip("v5p", 95.74 * GIB, 459e12, 2.765e12, 90e9, (2, 2, 1), "megacore"),
        Chip("v5e", 15.75 * GIB, 197e12, 0.82e12, 45e9, (2, 2, 1)),
        Chip("v6e", 31.25 * GIB, 918e12, 1.64e12, 90e9, (2, 2, 1)),
    )
}
"""TPUs, by the names that topologies begin with."""


@dataclass(frozen=True)
class Topology:
    """A slice: so many chips along each side."""

    chip: Chip
    sides: tuple[int, ...]

    @property
    def name(self) -> str:
        """As it was written."""
        return f"{self.chip.name}:{'x'.join(map(str, self.sides))}"

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(self.sides)

    @property
    def links(self) -> int:
        """Neighbors along one ring through the slice: two, unless there are only two chips, or one."""
        return min(2, self.chips - 1)


def parse_topology(text: str) -> Topology:
    """Reads `v4:2x2x1`.

    Raises:
        ValueError: it names no chip of `CHIPS`, or its sides are not numbers.
    """
    found = re.fullmatch(r"(\w+):([1-9]\d*(?:x[1-9]\d*){1,2})", text)
    if found is None or found[1] not in CHIPS:
        raise ValueError(
            f"topology: must be a chip and a slice's sides, such as v4:2x2x1, got {text!r}; "
            f"chips are {', '.join(CHIPS)}"
        )
    return Topology(CHIPS[found[1]], tuple(map(int, found[2].split("x"))))
