"""A plan as text: a row for each program, and what they add up to."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reimagen_generator.planning.chips import GIB, Topology
from reimagen_generator.planning.programs import Program
from reimagen_generator.planning.roofline import Figures, seconds, seconds_by_roof

_SHARES = (1.0, 0.5, 0.3)


@dataclass(frozen=True)
class Planned:
    """A program, compiled."""

    program: Program
    figures: Figures


def drawing_table(programs: Iterable[Planned], topology: Topology) -> Iterator[str]:
    """Lines of Markdown, each row as soon as its program is compiled, and what they add up to."""
    planned: list[Planned] = []
    yield from _header()
    for one in programs:
        planned.append(one)
        yield _row(one, topology)
    yield f"| all | | {held(planned) / GIB:.2f} | | | | | | {_times(total(planned, topology))} |"
    yield ""
    yield verdict(held(planned), topology)


def training_table(programs: Iterable[Planned], topology: Topology) -> Iterator[str]:
    """The same of training steps, each of which has the slice for itself."""
    planned: list[Planned] = []
    yield from _header()
    for one in programs:
        planned.append(one)
        yield _row(one, topology)
    yield ""
    yield verdict(max(one.figures.memory for one in planned), topology)


def total(planned: Sequence[Planned], topology: Topology) -> float:
    """Seconds of all runs of all programs, at their peaks."""
    return sum(one.program.runs * seconds(one.figures, topology) for one in planned)


def held(planned: Sequence[Planned]) -> float:
    """The most bytes that a device holds: all networks' parameters, and what the hungriest program needs besides."""
    parameters = {one.program.part: one.program.parameters for one in planned}
    return sum(parameters.values()) + max(one.figures.memory - one.program.parameters for one in planned)


def verdict(memory: float, topology: Topology) -> str:
    """Whether so many bytes a device fit."""
    there = topology.chip.memory
    fits = "fit in" if memory <= there else "do NOT fit in"
    return f"{memory / GIB:.2f} GiB a device {fits} its {there / GIB:.2f}; {topology.name} has {topology.chips} chips."


def _header() -> Iterator[str]:
    """Of figures for one device and one run, but for the seconds, which are of all runs, at shares of the peaks."""
    shares = " | ".join(f"s at {share:.0%}" for share in _SHARES)
    yield f"| part | program | GiB | TFLOP | GB moved | GB exchanged | bound by | runs | {shares} |"
    yield "|---|---|" + "---:|" * 4 + "---|" + "---:|" * (1 + len(_SHARES))


def _row(one: Planned, topology: Topology) -> str:
    figures, program = one.figures, one.program
    roofs = seconds_by_roof(figures, topology)
    work = f"{figures.flops / 1e12:.3f} | {figures.moved / 1e9:.2f} | {figures.exchanged / 1e9:.3f}"
    return (
        f"| {program.part} | {program.name} | {figures.memory / GIB:.2f} | {work} "
        f"| {max(roofs, key=roofs.__getitem__)} | {program.runs} "
        f"| {_times(program.runs * seconds(figures, topology))} |"
    )


def _times(at_peak: float) -> str:
    return " | ".join(f"{at_peak / share:.2f}" for share in _SHARES)
