"""Minimum time of a program (the roofline model, Williams et al. 2009, with a third roof for communication).

A device computes, reads and writes its memory, and exchanges data with other devices. At best the three overlap fully,
each at its peak rate, and the slowest of them determines the time.
"""

from dataclasses import dataclass

from reimagen_generator.planning.chips import Topology


@dataclass(frozen=True)
class Figures:
    """The compiler's figures of a compiled program, for one device."""

    arguments: float
    """Bytes of the inputs, including parameters."""
    outputs: float
    temporaries: float
    flops: float
    moved: float
    """Bytes read from and written to a TPU's memory, where arrays consist of whole tiles."""
    unpadded: float
    """The same without the unused parts of tiles."""
    exchanged: float
    """Bytes sent to other devices."""
    compile_seconds: float

    @property
    def memory(self) -> float:
        """Bytes in memory while it runs."""
        return self.arguments + self.outputs + self.temporaries


def moved_bytes(figures: Figures, topology: Topology) -> float:
    """Return the bytes that a device reads and writes; a GPU has no tiles to fill."""
    return figures.moved if topology.chip.stand_in is None else figures.unpadded


def seconds_by_roof(figures: Figures, topology: Topology) -> dict[str, float]:
    """Return the minimum time of computing, memory access and communication, in seconds."""
    chip = topology.chip
    links = max(1, topology.links)
    return {
        "compute": figures.flops / chip.flops,
        "memory": moved_bytes(figures, topology) / chip.bandwidth,
        "exchange": figures.exchanged / (links * chip.link),
    }


def seconds(figures: Figures, topology: Topology) -> float:
    """Return the minimum time of one run, in seconds."""
    return max(seconds_by_roof(figures, topology).values())
