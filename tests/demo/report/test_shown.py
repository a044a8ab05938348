"""The table of measures that a copy in place cannot pass, on made-up values."""

import numpy as np

from reimagen_demo.report.shown import TRUE, Shown, loss_table, table
from reimagen_demo.report.sweep import BEFORE, NOW
from reimagen_evaluation.reference_use import ReferenceUse
from reimagen_evaluation.variety import Variety

USEFUL = [ReferenceUse(0.1, 0.3, 0.4, 0.2), ReferenceUse(0.3, 0.1, 0.4, 0.2), ReferenceUse(0.9, 0.1, 0.4, 0.2)]
USELESS = [ReferenceUse(time, 0.3, 0.4, 0.2) for time in (0.1, 0.3, 0.9)]


def rates(obeyed: float, copied: float, faithful: float) -> dict[str, np.ndarray]:
    def of(rate: float) -> np.ndarray:
        return (np.arange(100) < 100 * rate).astype(float)

    return {"obeyed": of(obeyed), "copied in place": of(copied), "faithful": of(faithful)}


def cells(shown: Shown) -> dict[str, list[str]]:
    """Return by measure: criterion, before, these weights, true images, met."""
    lines = [line.strip("|").split("|") for line in table(shown).splitlines()[2:]]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_good_weights_meet_the_criteria_and_copies_do_not() -> None:
    geometry = {NOW: rates(0.9, 0.02, 0.8), BEFORE: rates(0.05, 0.9, 0.7), TRUE: rates(0.98, 0.0, 0.9)}
    variety = {NOW: Variety(7.0, 50.0), BEFORE: Variety(1.0, 10.0), TRUE: Variety(10.0, 60.0)}
    found = cells(Shown(geometry, variety, {BEFORE: USELESS, NOW: USEFUL}))
    assert [row[-1] for row in found.values()] == ["yes", "yes", "yes", "yes", "", "yes"]
    obeyed = found["stated place, size, mirroring and turn all obeyed"]
    assert [cell.split(" [")[0] for cell in obeyed[1:4]] == ["5.0 %", "90.0 %", "98.0 %"]
    assert found["the same, in pixels"][1:4] == ["0.17 (10)", "0.83 (50)", "1 (60)"]

    swapped = {BEFORE: geometry[NOW], NOW: geometry[BEFORE], TRUE: geometry[TRUE]}
    found = cells(Shown(swapped, variety | {NOW: variety[BEFORE]}, {NOW: USELESS}))
    assert [row[-1] for row in found.values()] == ["**no**", "**no**", "**no**", "**no**", "", "**no**"]


def test_only_what_was_measured_has_a_row() -> None:
    assert table(Shown({}, {}, {})) == ""
    found = cells(Shown({}, {}, {NOW: USEFUL}))
    [row] = found.values()
    assert row == ["every t ≥ 0.3", "", "0.3, 0.9", "", "yes"]


def test_the_losses_of_both_cascades_are_shown_side_by_side() -> None:
    lines = loss_table({BEFORE: USELESS, NOW: USEFUL}).splitlines()
    assert lines[0].count("|") == 8
    assert lines[3] == "| 0.3 | 0.3000 | 0.4000 | 0.2000 | 0.1000 | 0.4000 | 0.2000 |"
