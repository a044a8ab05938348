"""The report of a plan: a table with a row for each program, and the totals."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reimagen_generator.planning.chips import GIB, Topology
from reimagen_generator.planning.programs import Program
from reimagen_generator.planning.roofline import Figures, moved_bytes, seconds, seconds_by_roof

_SHARES = (1.0, 0.5, 0.3)


@dataclass(frozen=True)
class Planned:
    """A compiled program with its figures."""

    program: Program
    figures: Figures


def drawing_table(programs: Iterable[Planned], topology: Topology) -> Iterator[str]:
    """Yield lines of Markdown: each row when its program is compiled, then the totals."""
    planned: list[Planned] = []
    yield from _header()
    for one in programs:
        planned.append(one)
        yield _row(one, topology)
    yield f"| all | | {held(planned) / GIB:.2f} | | | | | | {_times(total(planned, topology))} |"
    yield ""
    yield by_roof(planned, topology)
    yield verdict(held(planned), topology)


def training_table(programs: Iterable[Planned], topology: Topology) -> Iterator[str]:
    """Yield the same table for training steps; each step uses the slice alone."""
    planned: list[Planned] = []
    yield from _header()
    for one in programs:
        planned.append(one)
        yield _row(one, topology)
    yield ""
    yield verdict(max(one.figures.memory for one in planned), topology)


def total(planned: Sequence[Planned], topology: Topology) -> float:
    """Return the seconds of all runs of all programs at peak rates."""
    return sum(one.program.runs * seconds(one.figures, topology) for one in planned)


def held(planned: Sequence[Planned]) -> float:
    """Return the maximum bytes per device: all networks' parameters, and the largest additional need of a program."""
    parameters = {one.program.part: one.program.parameters for one in planned}
    return sum(parameters.values()) + max(one.figures.memory - one.program.parameters for one in planned)


def by_roof(planned: Sequence[Planned], topology: Topology) -> str:
    """Return a sentence with the seconds of all runs at each peak rate alone."""
    sums = dict.fromkeys(("compute", "memory", "exchange"), 0.0)
    for one in planned:
        for roof, least in seconds_by_roof(one.figures, topology).items():
            sums[roof] += one.program.runs * least
    return (
        f"At peak rates, operations alone take {sums['compute']:.2f} s, moving bytes alone {sums['memory']:.2f} s, and "
        f"exchanging them alone {sums['exchange']:.2f} s."
    )


def verdict(memory: float, topology: Topology) -> str:
    """Return a sentence that says whether so many bytes fit on a device."""
    available = topology.chip.memory
    fits = "fit in" if memory <= available else "do NOT fit in"
    chips = f" on {topology.chips} chips" if topology.chip.devices > 1 else ""
    return (
        f"{memory / GIB:.2f} GiB per device {fits} the {available / GIB:.2f} GiB of a device; "
        f"{topology.name} has {topology.devices} devices{chips}."
    )


def _header() -> Iterator[str]:
    """Yield the header. Figures are for one device and one run; seconds are of all runs, at shares of the peaks."""
    shares = " | ".join(f"s at {share:.0%}" for share in _SHARES)
    yield f"| part | program | GiB | TFLOP | GB moved | GB exchanged | bound by | runs | {shares} |"
    yield "|---|---|" + "---:|" * 4 + "---|" + "---:|" * (1 + len(_SHARES))


def _row(one: Planned, topology: Topology) -> str:
    figures, program = one.figures, one.program
    roofs = seconds_by_roof(figures, topology)
    moved = moved_bytes(figures, topology)
    work = f"{figures.flops / 1e12:.3f} | {moved / 1e9:.2f} | {figures.exchanged / 1e9:.3f}"
    return (
        f"| {program.part} | {program.name} | {figures.memory / GIB:.2f} | {work} "
        f"| {max(roofs, key=roofs.__getitem__)} | {program.runs} "
        f"| {_times(program.runs * seconds(figures, topology))} |"
    )


def _times(at_peak: float) -> str:
    return " | ".join(f"{at_peak / share:.2f}" for share in _SHARES)
