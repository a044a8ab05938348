"""The sweep of `make results` and its criteria, on made-up scores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from reimagen_demo.art.entities import entities
from reimagen_demo.data.frequency import group
from reimagen_demo.report.claims import Distance, Evidence, claims
from reimagen_demo.report.prompts import (
    FAINT,
    FAINT_COUNT,
    GEOMETRY,
    GEOMETRY_PROMPTS,
    GROUPS,
    MAIN,
    SEEDED,
    SEEDS,
    SEVERAL,
    THREE,
    TWO,
    UNSEEN,
    VARIED,
    VARIETY,
)
from reimagen_demo.report.prompts import prompts as all_prompts
from reimagen_demo.report.sweep import ALONE, BOTH_WRONG, ONE_WRONG, PER_ENTITY, WITH
from reimagen_demo.report.sweep import sweep as build_sweep
from reimagen_demo.scenes.registry import SCENES
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.report.scores import Scores
from reimagen_evaluation.report.tables import NOT_THERE
from reimagen_evaluation.setting import NONE
from reimagen_evaluation.sweep import Sweep
from reimagen_generator.config.presets import DEMO

WEIGHTS, OTHER = Path("weights"), Path("other")


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return [prompt.item for prompt in all_prompts()]


def test_prompts_cover_all_groups_and_are_deterministic(items: list[Item]) -> None:
    assert Counter(item.group for item in items) == dict.fromkeys(GROUPS, MAIN) | {
        TWO: SEVERAL,
        THREE: SEVERAL,
        UNSEEN: VARIED,
        **dict.fromkeys(FAINT, FAINT_COUNT),
        GEOMETRY: GEOMETRY_PROMPTS,
        VARIETY: SEEDED * SEEDS,
    }
    assert len({item.key for item in items}) == len(items)
    assert items == [prompt.item for prompt in all_prompts()]
    groups = {entity.name: group(entity) for entity in entities()}
    scenes = {scene.phrase for scene in SCENES}
    for item in items:
        assert all(name in item.prompt for name in item.entities)
        assert item.scene in scenes
        shown = item.group if item.group in GROUPS else "held-out"
        assert {groups[name] for name in item.entities} == {shown}
        assert len(item.entities) == {TWO: 2, THREE: 3}.get(item.group, 1)
    # Every entity occurs as often as others of its group, up to one.
    for name in GROUPS:
        counts = Counter(item.entities for item in items if item.group == name)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_nothing_is_drawn_twice(items: list[Item]) -> None:
    wanted = build_sweep(WEIGHTS, OTHER, DEMO)
    settings = list(wanted.folders().values())
    assert all(setting not in settings[:place] for place, setting in enumerate(settings))
    work = {name: len(drawn) for name, drawn in wanted.work(items).items()}
    assert work["base"] == len(GROUPS) * MAIN + SEEDED * SEEDS + VARIED
    assert sum(work.values()) < 4_500
    for label, setting in wanted.settings("evaluations").items():
        strategy, _, number = label.partition(" @ ")
        (stage,) = setting.change(DEMO)
        assert stage.guidance.strategy == strategy
        assert stage.steps * (3 if strategy == "weighted" else 2) == int(number)
    # Every setting of the sweep is possible for the cascade.
    for setting in settings:
        setting.change(DEMO)


def test_without_the_other_cascade_its_rows_are_left_out() -> None:
    wanted = build_sweep(WEIGHTS, None, DEMO, most=3)
    assert list(wanted.axes["main"].values) == [WITH]
    assert wanted.axes["main"].note == f"The row *{ALONE}* is {NOT_THERE}."
    assert {setting.weights for setting in wanted.folders().values()} == {WEIGHTS}


Rates = Mapping[tuple[str, str], tuple[float, float]]


def evidence(sweep: Sweep, items: Sequence[Item], rates: Rates, usual: tuple[float, float] = (0.9, 0.95)) -> Evidence:
    """Return scores with the given rates of right entities and scenes, by axis and label, spread evenly over items."""
    made: dict[str, dict[str, dict[str, str]]] = {}
    for axis in sweep.axes:
        for label, setting in sweep.settings(axis).items():
            entity, scene = rates.get((axis, label), usual)
            rows = made.setdefault(sweep.folder(setting), {})
            for place, item in enumerate(sweep.axes[axis].items(items)):
                right = ((place * 37) % 100 < 100 * entity, (place * 37) % 100 < 100 * scene)
                scores = {"entity": right[0], "scene": right[1], "faithful": right[0] and right[1], "blended": False}
                scores["close-up entity"] = right[0]
                if item.key not in rows or (axis, label) in rates:
                    rows[item.key] = {name: str(int(value)) for name, value in scores.items()}
                    rows[item.key] |= {"near copy": "0", "drift": "1.5"}
    true = {name: np.ones(len(items)) for name in ("faithful", "entity", "scene")}
    names = ("faithful", "entity", "scene", "blended", "close-up entity", "near copy")
    pixels = np.zeros((len(items), 1, 1, 3), np.uint8)
    return Evidence(sweep, items, Scores(names, made, {}), pixels, true, {"the same drawing": [5.0, 30.0]})


def verdicts(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Return the measured value and the verdict of each criterion."""
    table = claims(evidence, [Distance("in-domain", 300, 1.5, 1.25, 1.75)])
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.count("|") == 5]
    return {bar.strip(): (measured.strip(), met.strip()) for _, bar, measured, met in rows}


def test_criteria_are_marked_as_met_or_not(items: list[Item]) -> None:
    sweep = build_sweep(WEIGHTS, OTHER, DEMO)
    found = verdicts(
        evidence(
            sweep,
            items,
            {
                ("main", ALONE): (0.2, 0.95),
                ("bad", ONE_WRONG): (0.85, 0.95),
                ("bad", BOTH_WRONG): (0.1, 0.6),
                ("two", PER_ENTITY): (0.4, 0.9),
            },
        )
    )
    measured, met = found["held-out: at least 80 % of the rate of true images"]
    assert measured.startswith("90.0 % [")
    assert met == "yes"
    measured, met = found["held-out: at least +50 points"]
    assert measured.startswith("+70.0 points [")
    assert met == "yes"
    assert found["frequent to held-out: at most 10 points"][1] == "yes"
    measured, met = found["one of two unrelated: at most 10 points less"]
    assert measured.startswith("85.0 % [")
    assert "], -5.0 points [" in measured
    assert found["one of two unrelated: at most 10 points less"][1] == "yes"
    assert found["both unrelated: the scene still follows the text, at most 10 points less"][1] == "**no**"
    measured, met = found["both drawn in at least 50 %"]
    assert measured.startswith("both: 40.0 % [")
    assert met == "**no**"
    assert found["shrunk, within 2 of 255 of the smaller stages'"] == ("1.500 [1.500, 1.500]", "yes")
    assert any("in-domain: 1.500 [1.250, 1.750]" in measured for measured, _ in found.values())


@pytest.mark.parametrize(
    ("entity", "met"), [((0.9, 0.85, 0.8, 0.6, 0.3), "yes"), ((0.3, 0.6, 0.8, 0.85, 0.9), "**no**")]
)
def test_eta_must_trade_the_entity_for_the_text(items: list[Item], entity: tuple[float, ...], met: str) -> None:
    scene = (0.4, 0.6, 0.8, 0.9, 0.95)
    labels = ("0.0", "0.25", "0.5", "0.75", "1.0")
    rates = {("eta", label): (e, s) for label, e, s in zip(labels, entity, scene, strict=True)}
    measured, verdict = verdicts(evidence(build_sweep(WEIGHTS, OTHER, DEMO), items, rates))[
        "both curves monotone within their intervals"
    ]
    assert verdict == met
    if met == "yes":
        assert measured == "the best product of entity and scene is at η = 0.5"


def test_missing_runs_have_no_row(items: list[Item]) -> None:
    sweep = build_sweep(WEIGHTS, None, DEMO)
    found = verdicts(evidence(sweep, items, {}))
    assert found["held-out: at least +50 points"] == (NOT_THERE, "")
    assert found["infrequent: at least +10 points"] == (NOT_THERE, "")
    measured, met = found["frequent to held-out: at most 10 points"]
    assert measured.endswith(f"{ALONE}: {NOT_THERE}")
    assert met == "yes"
    assert sweep.settings("base")["none"].neighbors == NONE
