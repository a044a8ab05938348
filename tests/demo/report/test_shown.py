"""The table of measures, on made-up values."""

import numpy as np

from reimagen_demo.report.prompts import FAINT, GEOMETRY, THREE, TWO, UNSEEN
from reimagen_demo.report.shown import Shown, loss_table, rows
from reimagen_demo.report.sweep import BEFORE, NOW
from reimagen_demo.report.tables import TRUE, table
from reimagen_evaluation.reference_use import ReferenceUse
from reimagen_evaluation.variety import Variety

USEFUL = [ReferenceUse(0.1, 0.3, 0.4, 0.2), ReferenceUse(0.3, 0.1, 0.4, 0.2), ReferenceUse(0.9, 0.1, 0.4, 0.2)]
USELESS = [ReferenceUse(time, 0.3, 0.4, 0.2) for time in (0.1, 0.3, 0.9)]


def rates(obeyed: float, copied: float, faithful: float) -> dict[str, np.ndarray]:
    def of(rate: float) -> np.ndarray:
        return (np.arange(100) < 100 * rate).astype(float)

    return {"obeyed": of(obeyed), "copied in place": of(copied), "close-up faithful": of(faithful)}


def several(there: float, arranged: float) -> dict[str, np.ndarray]:
    return {"close-up entity": rates(there, 0, 0)["obeyed"], "arranged": rates(arranged, 0, 0)["obeyed"]}


def cells(shown: Shown) -> dict[str, list[str]]:
    """Return by measure: criterion, before, these weights, true images, met."""
    lines = [line.strip("|").split("|") for line in table(rows(shown)).splitlines()[2:]]
    return {line[0].split(" (n =")[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_good_weights_meet_the_criteria_and_copies_do_not() -> None:
    geometry = {NOW: rates(0.9, 0.02, 0.8), BEFORE: rates(0.05, 0.9, 0.7), TRUE: rates(0.98, 0.0, 0.9)}
    variety = {NOW: Variety(7.0, 50.0), BEFORE: Variety(1.0, 10.0), TRUE: Variety(10.0, 60.0)}
    found = cells(Shown({GEOMETRY: geometry}, variety, {BEFORE: USELESS, NOW: USEFUL}))
    assert [row[-1] for row in found.values()] == ["yes", "yes", "yes", "yes", "", "yes"]
    obeyed = found["stated place, size, mirroring and turn all obeyed"]
    assert [cell.split(" [")[0] for cell in obeyed[1:4]] == ["5.0 %", "90.0 %", "98.0 %"]
    assert found["the same, in pixels"][1:4] == ["0.17 (10)", "0.83 (50)", "1 (60)"]

    swapped = {BEFORE: geometry[NOW], NOW: geometry[BEFORE], TRUE: geometry[TRUE]}
    found = cells(Shown({GEOMETRY: swapped}, variety | {NOW: variety[BEFORE]}, {NOW: USELESS}))
    assert [row[-1] for row in found.values()] == ["**no**", "**no**", "**no**", "**no**", "", "**no**"]


def test_only_what_was_measured_has_a_row() -> None:
    assert table(rows(Shown({}, {}, {}))) == ""
    found = cells(Shown({}, {}, {NOW: USEFUL}))
    [row] = found.values()
    assert row == ["every t ≥ 0.3", "", "0.3, 0.9", "", "yes"]


def test_two_entities_are_compared_with_true_images_and_three_are_only_reported() -> None:
    two = {NOW: several(0.80, 0.6), TRUE: several(0.95, 0.9)}
    found = cells(Shown({TWO: two, THREE: {NOW: several(0.5, 0.4), TRUE: several(0.9, 0.9)}}, {}, {}))
    assert found["two entities, both there and not blended"][-1] == "**no**"  # less than 85 % of 95 %
    assert found["the same, in the stated order or places"][2].startswith("60.0 %")
    assert found["three entities, all there"][2:] == ["50.0 % [40.4, 59.6]", "90.0 % [82.6, 94.5]", ""]
    better = cells(Shown({TWO: {NOW: several(0.81, 0.6), TRUE: several(0.95, 0.9)}}, {}, {}))
    assert better["two entities, both there and not blended"][-1] == "yes"


def test_unseen_words_have_a_bar_and_faint_things_a_row_each() -> None:
    words = {NOW: {"scene": rates(0.79, 0, 0)["obeyed"]}, TRUE: {"scene": rates(1.0, 0, 0)["obeyed"]}}
    faint = {kind: {NOW: several(0.5, 0), TRUE: several(0.9, 0)} for kind in FAINT}
    found = cells(Shown({UNSEEN: words} | faint, {}, {}))
    assert found["scene right when named with words that training never used"][-1] == "**no**"
    assert [name for name in found if name.endswith("recognized")] == [f"{kind} things recognized" for kind in FAINT]


def test_the_losses_of_both_cascades_are_shown_side_by_side() -> None:
    lines = loss_table({BEFORE: USELESS, NOW: USEFUL}).splitlines()
    assert lines[0].count("|") == 8
    assert lines[3] == "| 0.3 | 0.3000 | 0.4000 | 0.2000 | 0.1000 | 0.4000 | 0.2000 |"
