"""The paper's claims on the demonstration: for each its bar, the measurement, and whether the bar is met."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from reimagen_demo.report.prompts import GROUPS, TWO
from reimagen_demo.report.sweep import ALONE, BM25, BOTH_WRONG, DENSE, ETAS, ONE_WRONG, PER_ENTITY, WITH
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.copies import NEAR_COPY
from reimagen_evaluation.report import statistics
from reimagen_evaluation.report.scores import Scores
from reimagen_evaluation.report.statistics import Estimate
from reimagen_evaluation.report.tables import NOT_THERE, format_estimate
from reimagen_evaluation.sweep import Sweep

_Values = np.ndarray
DRIFT: Final = 2.0
"""Largest mean difference, of 255, between a shrunk 1024-pixel image and the smaller stages' images."""

Verdict = tuple[str, bool | None]
"""The measurement in words, and whether it meets the bar; None without a bar or without a measurement."""


@dataclass(frozen=True)
class Distance:
    """A Fréchet distance to true images, with its interval."""

    knowledge_base: str
    images: int
    value: float
    low: float
    high: float

    @property
    def cell(self) -> str:
        """The distance with its interval, formatted for a table."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Evidence:
    """All measurements that the claims are checked against."""

    sweep: Sweep
    items: Sequence[Item]
    scores: Scores
    true: np.ndarray
    """A true image of each prompt, items × side × side × 3 bytes."""
    judged_true: Mapping[str, _Values]
    """The judge's scores of the true images."""
    copied: Mapping[str, Sequence[float]]
    """Copy distances of true images to the knowledge base's image of the same drawing, and of another style."""

    def values(self, axis: str, label: str, name: str, group: str | None = None) -> _Values:
        """Return a score under an axis's label, of its items in a group; empty if the axis has no such label."""
        setting = self.sweep.settings(axis).get(label) if axis in self.sweep.axes else None
        if setting is None:
            return np.zeros(0)
        keys = [i.key for i in self.sweep.axes[axis].items(self.items) if group in (None, i.group)]
        return self.scores.of(self.sweep.folder(setting), keys, name)

    def true_of(self, groups: Sequence[str]) -> np.ndarray:
        """Return the true images of some groups' prompts."""
        return self.true[[item.group in groups for item in self.items]]

    def judged(self, name: str, group: str) -> _Values:
        """Return a score of the true images of a group."""
        return self.judged_true[name][[item.group == group for item in self.items]]


def claims(evidence: Evidence, distances: Sequence[Distance]) -> str:
    """Return the table of claims in Markdown, below the judge's scores of true images."""
    lines = ["| claim | bar | measured | met |", "|---|---|---|---|"]
    checked = [(claim, bar, check(evidence)) for claim, bar, check in CLAIMS]
    for claim, bar, (measured, met) in (*checked, ("retrieval helps FID", "reported only", _frechet(distances))):
        lines.append(f"| {claim} | {bar} | {measured} | {'' if met is None else 'yes' if met else '**no**'} |")
    return "\n\n".join([_judge(evidence), "\n".join(lines)])


def _judge(evidence: Evidence) -> str:
    names = ("faithful", "entity", "scene")
    rates = {
        group: [format_estimate(statistics.mean(evidence.judged(name, group))) for name in names] for group in GROUPS
    }
    rows = [f"| {group} | {' | '.join(cells)} |" for group, cells in rates.items()]
    return "\n".join(
        [
            "The judge is a network that knows all entities and scenes, and makes errors. On true images it scores:",
            "",
            "| prompts | faithful | entity | scene |",
            "|---|---|---|---|",
            *rows,
            "",
            "A perfect generator would reach these rates in the tables below.",
        ]
    )


def _faithful(e: Evidence) -> Verdict:
    drawn = statistics.mean(e.values("main", WITH, "faithful", "held-out"))
    true = statistics.mean(e.judged("faithful", "held-out"))
    if drawn is None or true is None or true.value == 0:
        return NOT_THERE, None
    ratio = drawn.value / true.value
    return f"{format_estimate(drawn)}, {100 * ratio:.0f} % of true images' {format_estimate(true)}", ratio >= 0.8


def _against_alone(group: str, points: float) -> Callable[[Evidence], Verdict]:
    def check(e: Evidence) -> Verdict:
        drawn, other = (e.values("main", label, "faithful", group) for label in (WITH, ALONE))
        gain = statistics.difference(drawn, other) if len(drawn) == len(other) else None
        return _sign(gain), None if gain is None else 100 * gain.value >= points

    return check


def _drop(e: Evidence) -> Verdict:
    parts = []
    for label in (WITH, ALONE):
        drop = _drop_of(e, label)
        if drop is None:
            parts.append(f"{label}: {NOT_THERE}")
            continue
        means = [statistics.mean(e.values("main", label, "faithful", group)) for group in ("frequent", "held-out")]
        rates = [format_estimate(mean) for mean in means]
        parts.append(f"{label}: {rates[0]} to {rates[1]}, {_sign(drop)}")
    return "; ".join(parts), _above(_drop_of(e, WITH), -10)


def _drop_of(e: Evidence, label: str) -> Estimate | None:
    held_out, frequent = (e.values("main", label, "faithful", group) for group in ("held-out", "frequent"))
    return statistics.independent_difference(held_out, frequent)


def _copies(e: Evidence) -> Verdict:
    parts = [f"{label}: {_rate(e, 'styles', label, 'near copy')}" for label in ("as found", "the next")]
    checked = {name: np.mean(np.array(distances) < NEAR_COPY) for name, distances in e.copied.items()}
    parts.append("of true images: " + ", ".join(f"{name} {100 * rate:.0f} %" for name, rate in checked.items()))
    return "near copies, " + "; ".join(parts), None


def _styles(e: Evidence) -> Verdict:
    found, following = (e.values("styles", label, "faithful") for label in ("as found", "the next"))
    rate = statistics.mean(following)
    if rate is None:
        return NOT_THERE, None
    return f"{format_estimate(rate)}, {_sign(statistics.difference(following, found))}", None


def _eta(e: Evidence) -> Verdict:
    curves = {n: [statistics.mean(e.values("eta", str(eta), n)) for eta in ETAS] for n in ("entity", "scene")}
    entity, scene = ([point for point in curve if point is not None] for curve in curves.values())
    if len(entity) < len(ETAS) or len(scene) < len(ETAS):
        return NOT_THERE, None
    products = [a.value * b.value for a, b in zip(entity, scene, strict=True)]
    best = ETAS[int(np.argmax(products))]
    ordered = _monotone(entity[::-1]) and _monotone(scene)
    return f"the best product of entity and scene is at η = {best}", ordered


def _monotone(points: Sequence[Estimate]) -> bool:
    """Return whether no point is below an earlier one by more than their intervals allow."""
    return all(late.high >= early.low for index, late in enumerate(points) for early in points[:index])


def _more(e: Evidence) -> Verdict:
    return ", ".join(f"k = {k}: {_rate(e, 'k', str(k), 'entity')}" for k in (1, 2, 4)), None


def _one_wrong(e: Evidence) -> Verdict:
    change = _change(e, ONE_WRONG, "faithful")
    return f"{_rate(e, 'bad', ONE_WRONG, 'faithful')}, {_sign(change)}", _above(change, -10)


def _both_wrong(e: Evidence) -> Verdict:
    change = _change(e, BOTH_WRONG, "scene")
    return f"scene: {_rate(e, 'bad', BOTH_WRONG, 'scene')}, {_sign(change)}", _above(change, -10)


def _change(e: Evidence, label: str, name: str) -> Estimate | None:
    return statistics.difference(e.values("bad", label, name), e.values("bad", "both right", name))


def _two(e: Evidence) -> Verdict:
    both = statistics.mean(e.values("two", PER_ENTITY, "close-up entity", TWO))
    blended = _rate(e, "two", PER_ENTITY, "blended")
    return f"both: {format_estimate(both)}; blended: {blended}", None if both is None else both.value >= 0.5


def _detail(e: Evidence) -> Verdict:
    settings = list(e.sweep.axes["large"].values) if "large" in e.sweep.axes else []
    if not settings:
        return NOT_THERE, None
    everywhere, first_alone = (e.values("large", label, "crop entity_probability") for label in settings)
    gain = statistics.difference(everywhere, first_alone)
    return f"probability of the entity, judged on the middle: {_sign(gain)} with references in every stage", None


def _large(e: Evidence) -> Verdict:
    label = next(iter(e.sweep.axes["large"].values), "") if "large" in e.sweep.axes else ""
    drift = statistics.mean(e.values("large", label, "drift"))
    return format_estimate(drift), None if drift is None else drift.value <= DRIFT


def _frechet(distances: Sequence[Distance]) -> Verdict:
    return "; ".join(f"{row.knowledge_base}: {row.cell}" for row in distances) or NOT_THERE, None


def _strategies(e: Evidence) -> Verdict:
    best = [
        (statistics.mean(e.values("evaluations", label, "faithful")), label)
        for label in e.sweep.axes["evaluations"].values
    ]
    measured = [(estimate.value, label) for estimate, label in best if estimate is not None]
    if not measured:
        return NOT_THERE, None
    value, label = max(measured)
    return f"best by evaluations: {label}, {100 * value:.1f} %; see the curves", None


def _retrievers(e: Evidence) -> Verdict:
    return "faithful: " + ", ".join(
        f"{label} {_rate(e, 'retriever', label, 'faithful')}" for label in (BM25, DENSE)
    ), None


def _rate(e: Evidence, axis: str, label: str, name: str) -> str:
    return format_estimate(statistics.mean(e.values(axis, label, name)))


def _sign(change: Estimate | None) -> str:
    return format_estimate(change, sign=True)


def _above(change: Estimate | None, points: float) -> bool | None:
    return None if change is None else 100 * change.value >= points


CLAIMS: Final[tuple[tuple[str, str, Callable[[Evidence], Verdict]], ...]] = (
    ("over 80 % of prompts faithful", "held-out: at least 80 % of the rate of true images", _faithful),
    ("+40 points over a model trained without retrieval", "held-out: at least +50 points",
     _against_alone("held-out", 50)),
    ("the same", "infrequent: at least +10 points", _against_alone("infrequent", 10)),
    ("not a copy", "references in other styles only: reported only", _styles),
    ("the same", "the rate of near copies: reported only", _copies),
    ("little drop from frequent to infrequent", "frequent to held-out: at most 10 points", _drop),
    ("η trades the entity for the text", "both curves monotone within their intervals", _eta),
    ("more references help entities", "reported only", _more),
    ("interleaved, weighted, joint over steps", "reported only", _strategies),
    ("BM25 against dense", "reported only", _retrievers),
    ("*beyond the paper:* bad references", "one of two unrelated: at most 10 points less", _one_wrong),
    ("the same", "both unrelated: the scene still follows the text, at most 10 points less", _both_wrong),
    ("*beyond:* two entities in a prompt", "both drawn in at least 50 %", _two),
    ("*beyond:* details lost in super-resolution", "reported only", _detail),
    ("1024 px images match the smaller stages' images",
     f"shrunk, within {DRIFT:.0f} of 255 of the smaller stages'", _large),
)  # fmt: skip
