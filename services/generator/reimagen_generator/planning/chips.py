"""The peak rates of chips, and slices of chips by name."""

import math
import re
from dataclasses import dataclass, replace

GIB = 2**30
Sides = tuple[int, int, int]


@dataclass(frozen=True)
class Chip:
    """The peak rates of one device of a chip, from its vendor's documentation."""

    name: str
    memory: float
    """Bytes of HBM available to a program, as the compiler counts them; of a GPU, all of its memory."""
    flops: float
    """bfloat16 operations per second, without sparsity."""
    bandwidth: float
    """Bytes per second from and to HBM."""
    link: float
    """Bytes per second that a device can send over one link."""
    devices: int = 1
    """Number of devices that the compiler sees in one chip."""
    host: Sides = (2, 2, 1)
    """Number of chips of one host along each side of a slice of several hosts."""
    largest_host: Sides = (2, 2, 1)
    """The same for a slice of a single host."""
    cores: str | None = None
    """How two cores act as one device, in the compiler's terms; None if each core is a device."""
    stand_in: str | None = None
    """The TPU for which the programs of a GPU are compiled."""


_TPUS = (
    Chip("v4", 30.75 * GIB, 275e12, 1.2e12, 45e9, cores="megacore"),
    Chip("v5p", 95.74 * GIB, 459e12, 2.765e12, 90e9, cores="megacore"),
    Chip("v5e", 15.75 * GIB, 197e12, 0.82e12, 45e9, largest_host=(2, 4, 1)),
    Chip("v6e", 31.25 * GIB, 918e12, 1.64e12, 90e9, largest_host=(2, 4, 1)),
    Chip("tpu7x", 94.75 * GIB, 1153.5e12, 3.69e12, 90e9, devices=2),
)
_GPUS = (
    Chip("h100", 80e9, 989.5e12, 3.35e12, 405e9, stand_in="v5p"),
    Chip("h200", 141e9, 989.5e12, 4.8e12, 405e9, stand_in="v5p"),
    Chip("b200", 180e9, 2250e12, 7.7e12, 810e9, stand_in="v5p"),
)
CHIPS = {chip.name: chip for chip in (*_TPUS, *_GPUS)}
"""TPUs and GPUs, by the names at the beginning of topologies."""
_GPU_SLICES: dict[int, tuple[int, ...]] = {1: (1, 1, 1), 2: (1, 2, 1), 4: (2, 2, 1), 8: (2, 2, 2)}
"""The slice of TPUs that stands for a number of GPUs."""


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
    def devices(self) -> int:
        """Number of devices."""
        return self.chips * self.chip.devices

    @property
    def links(self) -> int:
        """Number of neighbors along one ring through the slice: two, or fewer with one or two devices.

        A GPU sends through a switch, at the rate of all its links.
        """
        return min(2 if self.chip.stand_in is None else 1, self.devices - 1)

    @property
    def host(self) -> Sides:
        """Number of chips of one host along each side."""
        x, y, z = (*self.sides, 1, 1)[:3]
        alone = (x, y, z)
        if all(side <= most for side, most in zip(alone, self.chip.largest_host, strict=True)):
            return alone
        host = self.chip.host
        return min(x, host[0]), min(y, host[1]), min(z, host[2])

    @property
    def compiled(self) -> "Topology":
        """The slice of TPUs for which programs are compiled: this one, or what stands for GPUs."""
        if self.chip.stand_in is None:
            return self
        return replace(self, chip=CHIPS[self.chip.stand_in], sides=_GPU_SLICES[self.chips])


def parse_topology(text: str) -> Topology:
    """Return the topology of a name such as `v4:2x2x1` or `h100:4`.

    Raises:
        ValueError: The chip is not in `CHIPS`, or there are no such slices of it.
    """
    found = re.fullmatch(r"(\w+):([1-9]\d*(?:x[1-9]\d*){0,2})", text)
    chip = None if found is None else CHIPS.get(found[1])
    if found is not None and chip is not None:
        sides = tuple(map(int, found[2].split("x")))
        if (len(sides) > 1) if chip.stand_in is None else (len(sides) == 1 and sides[0] in _GPU_SLICES):
            return Topology(chip, sides)
    raise ValueError(
        f"topology: must be a TPU and a slice's sides, such as v4:2x2x1, or a GPU and 1, 2, 4 or 8, such as h100:4, "
        f"got {text!r}; TPUs are {', '.join(tpu.name for tpu in _TPUS)}; GPUs are {', '.join(g.name for g in _GPUS)}"
    )
