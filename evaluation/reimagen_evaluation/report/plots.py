"""Plots of a sweep's axes, as SVG."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reimagen_evaluation.report import statistics
from reimagen_evaluation.report.scores import Scores
from reimagen_evaluation.report.statistics import Estimate
from reimagen_evaluation.report.tables import Line, curves

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
"""Colors of Okabe and Ito, which people with any color vision can distinguish."""


def plot(title: str, rows: Sequence[Line], names: Sequence[str], scores: Scores, path: Path) -> None:
    """Draw curves if the labels are numbers, else a dot for each row; whiskers are 95 % intervals.

    Args:
        title: title above the plot.
        rows: rows of the axis's table.
        names: names of scores. Scores of another unit than the first are left out; with several curves, all but the
            first.
        scores: scores of all settings.
        path: the SVG file to write.
        path: the SVG to write.
    """
    names = _of_one_unit(rows, names, scores)
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    found = dict(curves(rows))
    if found and all(len(points) > 1 for points in found.values()):
        _curves(axes, found, names if len(found) == 1 else names[:1], scores)
    else:
        figure.set_figheight(1.2 + 0.32 * len(rows) * max(1, len(names) / 2))
        _dots(axes, rows, names, scores)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    # Without the time and random ids, so that the same scores give the same file.
    with mpl.rc_context({"svg.hashsalt": "reimagen"}):
        figure.savefig(path, metadata={"Date": None})


def _curves(axes: Axes, found: dict[str, list[tuple[float, Line]]], names: Sequence[str], scores: Scores) -> None:
    series = [(curve, name) for curve in found for name in names]
    values = [value for points in found.values() for value, _ in points]
    apart = 0.008 * (max(values) - min(values))  # so that whiskers do not hide each other
    for number, (curve, name) in enumerate(series):
        shift = apart * (number - (len(series) - 1) / 2)
        points = [(value, _estimate(scores, line, name)) for value, line in found[curve]]
        measured = [(value, estimate) for value, estimate in points if estimate is not None]
        if measured:
            label = curve if len(found) > 1 else name
            axes.errorbar(
                [value + shift for value, _ in measured],
                [_scaled(estimate) for _, estimate in measured],
                yerr=_whiskers([estimate for _, estimate in measured]),
                color=_COLORS[number % len(_COLORS)], marker="o", markersize=4, capsize=3, linewidth=1.6, label=label,
            )  # fmt: skip
    axes.set_ylabel(_unit(names[0], [_estimate(scores, line, names[0]) for _, line in next(iter(found.values()))]))


def _dots(axes: Axes, rows: Sequence[Line], names: Sequence[str], scores: Scores) -> None:
    for number, name in enumerate(names):
        estimates = [(index, _estimate(scores, row, name)) for index, row in enumerate(rows)]
        measured = [(index, estimate) for index, estimate in estimates if estimate is not None]
        if measured:
            axes.errorbar(
                [_scaled(estimate) for _, estimate in measured],
                [index + 0.16 * (number - (len(names) - 1) / 2) for index, _ in measured],
                xerr=_whiskers([estimate for _, estimate in measured]),
                color=_COLORS[number % len(_COLORS)], marker="o", markersize=4, capsize=2, linestyle="none", label=name,
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(_unit(names[0], [_estimate(scores, row, names[0]) for row in rows]))


def _of_one_unit(rows: Sequence[Line], names: Sequence[str], scores: Scores) -> list[str]:
    """Return the scores that share the first one's unit: all shares of prompts, or else only the first."""
    shares = [
        name for name in names if all(e is None or e.proportion for e in (_estimate(scores, row, name) for row in rows))
    ]
    return shares if names[0] in shares else list(names[:1])


def _estimate(scores: Scores, line: Line, name: str) -> Estimate | None:
    return statistics.mean(scores.of(line.setting, line.keys, name))


def _scaled(estimate: Estimate) -> float:
    return estimate.value * (100 if estimate.proportion else 1)


def _whiskers(estimates: Sequence[Estimate]) -> np.ndarray:
    """Return the lengths below and above each value, in matplotlib's format."""
    scale = [100 if estimate.proportion else 1 for estimate in estimates]
    below = [(e.value - e.low) * s for e, s in zip(estimates, scale, strict=True)]
    above = [(e.high - e.value) * s for e, s in zip(estimates, scale, strict=True)]
    return np.array([below, above]).clip(min=0.0)


def _unit(name: str, estimates: Sequence[Estimate | None]) -> str:
    return "%" if any(estimate is not None and estimate.proportion for estimate in estimates) else name
