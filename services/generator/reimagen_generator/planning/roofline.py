"""How long a program takes at least (the roofline model, Williams et al. 2009, with a third roof for the exchange).

A device computes, moves bytes from and to its memory, and exchanges bytes with others. At best all three overlap
fully, each at its peak, and the slowest of them sets the time.
"""

from dataclasses import dataclass

from reimagen_generator.planning.chips import Topology


@dataclass(frozen=True)
class Figures:
    """What the compiler says of a compiled program, for one device."""

    arguments: float
    """Bytes of what goes in, parameters among it."""
    outputs: float
    temporaries: float
    flops: float
    moved: float
    """Bytes read from and written to memory."""
    exchanged: float
    """Bytes sent to other devices."""
    compile_seconds: float

    @property
    def memory(self) -> float:
        """Bytes held while it runs."""
        return self.arguments + self.outputs + self.temporaries


def seconds_by_roof(figures: Figures, topology: Topology) -> dict[str, float]:
    """The least time of each of the three."""
    chip = topology.chip
    links = max(1, topology.links)
    return {
        "compute": figures.flops / chip.flops,
        "memory": figures.moved / chip.bandwidth,
        "exchange": figures.exchanged / (links * chip.link),
    }


def seconds(figures: Figures, topology: Topology) -> float:
    """The least time of one run."""
    return max(seconds_by_roof(figures, topology).values())
