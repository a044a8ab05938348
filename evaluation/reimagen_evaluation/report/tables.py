"""Tables of a sweep: one row per label of an axis, one column per score, with intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.report import statistics
from reimagen_evaluation.report.scores import Scores
from reimagen_evaluation.report.statistics import Estimate
from reimagen_evaluation.sweep import Axis, Sweep

NOT_THERE = "not measured yet"
NOTHING = "–"
"""Cell of a score that is not defined for any of the scored images."""


@dataclass(frozen=True)
class Line:
    """A row of an axis's table."""

    label: str
    group: str | None
    setting: str
    items: tuple[Item, ...]

    @property
    def keys(self) -> list[str]:
        """The keys of the row's items."""
        return [item.key for item in self.items]

    @property
    def name(self) -> str:
        """The row's name in tables and plots."""
        return self.label if self.group is None else f"{self.label}, {self.group}"


def lines(sweep: Sweep, name: str, items: Sequence[Item]) -> list[Line]:
    """Return the rows of an axis's table, by group if the axis has a row for each group."""
    axis, settings = sweep.axes[name], sweep.settings(name)
    chosen = axis.items(items)
    groups = list(dict.fromkeys(item.group for item in chosen)) if axis.by_group else [None]
    return [
        Line(label, group, sweep.folder(setting), tuple(i for i in chosen if group in (None, i.group)))
        for group in groups
        for label, setting in settings.items()
    ]


def shown(axis: Axis, scores: Scores, rows: Sequence[Line]) -> list[str]:
    """Return the scores that an axis shows: those it names, or all that were measured on its items."""
    candidates = axis.scores or scores.names
    found = [[scores.of(row.setting, row.keys, name) for row in rows] for name in candidates]
    return [name for name, values in zip(candidates, found, strict=True) if not all(np.isnan(v).all() for v in values)]


def table(sweep: Sweep, name: str, items: Sequence[Item], scores: Scores) -> str:
    """Return an axis's table in Markdown, with paired differences of the first score within each group."""
    axis = sweep.axes[name]
    rows = lines(sweep, name, items)
    names = shown(axis, scores, rows)
    if not names:
        return NOT_THERE
    reference = axis.against or next(iter(axis.values))
    several = len(axis.values) > 1
    heads = ["", "n", *names, *([f"{names[0]}: less {reference}"] if several else [])]
    distances = [] if axis.by_group else [scores.frechet[row.setting] for row in rows if row.setting in scores.frechet]
    heads += ["Fréchet distance"] if distances else []
    heads += ["the paper"] if axis.paper else []
    table_lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        scored = scores.by_setting.get(row.setting, {})
        nothing = _nothing(scores, row)
        cells = [row.name, str(sum(key in scored for key in row.keys))]
        cells += [
            format_estimate(statistics.mean(scores.of(row.setting, row.keys, score)), nothing=nothing)
            for score in names
        ]
        if several:
            other = next(line for line in rows if (line.label, line.group) == (reference, row.group))
            lacking = NOT_THERE if NOT_THERE in (nothing, _nothing(scores, other)) else NOTHING
            change = format_estimate(_difference(scores, row, other, names[0]), sign=True, nothing=lacking)
            cells.append("" if row is other else change)
        if distances:
            cells.append(_distance(scores.frechet.get(row.setting), min(distances)))
        if axis.paper:
            cells.append(axis.paper.get(row.label, ""))
        table_lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(table_lines)


def format_estimate(estimate: Estimate | None, *, sign: bool = False, nothing: str = NOT_THERE) -> str:
    """Format a figure and its interval for a table: "84.2 % [80.1, 87.6]"; None becomes `nothing`."""
    if estimate is None:
        return nothing
    plus = "+" if sign else ""
    figures = (estimate.value, estimate.low, estimate.high)
    if estimate.proportion:
        value, low, high = (100 * figure for figure in figures)
        return f"{value:{plus}.1f} {'points' if sign else '%'} [{low:{plus}.1f}, {high:{plus}.1f}]"
    value, low, high = figures
    return f"{value:{plus}.3f} [{low:{plus}.3f}, {high:{plus}.3f}]"


def _distance(distance: float | None, best: float) -> str:
    if distance is None:
        return NOT_THERE
    return f"**{distance:.3f}**" if distance == best else f"{distance:.3f}"


def _nothing(scores: Scores, row: Line) -> str:
    scored = scores.by_setting.get(row.setting, {})
    return NOTHING if any(key in scored for key in row.keys) else NOT_THERE


def _difference(scores: Scores, row: Line, other: Line, name: str) -> Estimate | None:
    def values(line: Line) -> Float[np.ndarray, " items"]:
        return scores.of(line.setting, line.keys, name)

    return statistics.difference(values(row), values(other))


def curves(rows: Sequence[Line]) -> Iterator[tuple[str, list[tuple[float, Line]]]]:
    """Yield rows whose labels are numbers or `NAME @ NUMBER` as curves: a name, and its rows in numeric order."""
    found: dict[str, list[tuple[float, Line]]] = {}
    for row in rows:
        name, at, number = row.label.rpartition(" @ ")
        try:
            value = float(number)
        except ValueError:
            continue
        found.setdefault(", ".join(part for part in (name if at else "", row.group or "") if part), []).append(
            (value, row)
        )
    for name, points in found.items():
        yield name, sorted(points, key=lambda point: point[0])
