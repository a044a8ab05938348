"""The peak rates of chips, and slices of chips by name."""

import math
import re
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """The peak rates of one chip, from its vendor's documentation."""

    name: str
    memory: float
    """Bytes of HBM available to a program, as the compiler counts them."""
    flops: float
    """bfloat16 operations per second."""
    bandwidth: float
    """Bytes per second from and to HBM."""
    link: float
    """Bytes per second that a chip can send to one neighbor."""
    host: tuple[int, int, int]
    """Number of chips of one host along each side of a slice."""
    cores: str | None = None
    """How two cores act as one device, in the compiler's terms; None for a chip with one core."""


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 30.75 * GIB, 275e12, 1.2e12, 45e9, (2, 2, 1), "megacore"),
        Chip("v5p", 95.74 * GIB, 459e12, 2.765e12, 90e9, (2, 2, 1), "megacore"),
        Chip("v5e", 15.75 * GIB, 197e12, 0.82e12, 45e9, (2, 2, 1)),
        Chip("v6e", 31.25 * GIB, 918e12, 1.64e12, 90e9, (2, 2, 1)),
    )
}
"""TPU chips, by the names at the beginning of topologies."""


@dataclass(frozen=True)
class Topology:
    """A slice: the chip and the number of chips along each side."""

    chip: Chip
    sides: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the slice, such as `v4:2x2x1`."""
        return f"{self.chip.name}:{'x'.join(map(str, self.sides))}"

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.sides)

    @property
    def links(self) -> int:
        """Number of neighbors along one ring through the slice: two, or fewer with one or two chips."""
        return min(2, self.chips - 1)


def parse_topology(text: str) -> Topology:
    """Return the topology of a name such as `v4:2x2x1`.

    Raises:
        ValueError: The chip is not in `CHIPS`, or the sides are not numbers.
    """
    found = re.fullmatch(r"(\w+):([1-9]\d*(?:x[1-9]\d*){1,2})", text)
    if found is None or found[1] not in CHIPS:
        raise ValueError(
            f"topology: must be a chip and a slice's sides, such as v4:2x2x1, got {text!r}; "
            f"chips are {', '.join(CHIPS)}"
        )
    return Topology(CHIPS[found[1]], tuple(map(int, found[2].split("x"))))
