"""Interrupted and resumed runs of the tiny cascade, and their tables."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import records, sweep
from reimagen_evaluation.benches.item import Item, Reference
from reimagen_evaluation.drawing import BatchDrawer, seed_of
from reimagen_evaluation.grounding import Grounding
from reimagen_evaluation.runs import Run
from reimagen_evaluation.setting import Setting
from reimagen_evaluation.sweep import Axis, Sweep
from reimagen_generator.generation import provenance


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Return five items; the last has no reference."""
    folder = tmp_path_factory.mktemp("references")
    made = []
    for number in range(5):
        path = folder / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)).save(path)
        references = (Reference(path, f"thing {number}"),) if number < 4 else ()
        made.append(Item(f"item.{number}", f"a thing {number}", (f"thing {number}",), "", "things", references))
    return made


class Stopped(Exception):
    pass


def draw(run: Run, items: list[Item], drawer: BatchDrawer, stop_after: int = 99) -> int:
    batches = []

    def done(count: int) -> None:
        batches.append(count)
        if len(batches) == stop_after:
            raise Stopped

    run.draw(items, samples=2, drawer=drawer, grounding=Grounding(items, {}), batch_size=3, done=done)
    return sum(batches)


def images(run: Run) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in (run.folder / "images").iterdir()}


def test_a_killed_run_resumes_to_the_same_images(learned: Path, items: list[Item], tmp_path: Path) -> None:
    setting = Setting(weights=learned, size=16, neighbors="references", k=1)
    drawer = BatchDrawer.load(learned)
    whole, killed = Run(tmp_path / "whole", setting), Run(tmp_path / "killed", setting)
    assert draw(whole, items, drawer) == 10
    with pytest.raises(Stopped):
        draw(killed, items, drawer, stop_after=2)
    table = killed.folder / "drawn.csv"
    text = table.read_text()
    # As after a kill: the last line is incomplete, and the records do not list one image.
    table.write_text(text[:-5])
    assert draw(Run(killed.folder, setting), items, drawer) == 5
    assert draw(Run(killed.folder, setting), items, drawer) == 0
    drawn = images(whole)
    assert len(drawn) == 10
    assert all((image == images(killed)[name]).all() for name, image in drawn.items())
    assert min(table.read_text().splitlines()[1:]).startswith("item.0,0,")
    assert len({(row["key"], row["sample"]) for row in records.read(table)}) == len(records.read(table)) == 10


def test_a_table_lists_the_neighbors_of_each_image(learned: Path, items: list[Item], tmp_path: Path) -> None:
    run = Run(tmp_path / "setting", Setting(weights=learned, size=32, neighbors="references", k=1))
    draw(run, items, BatchDrawer.load(learned))
    rows = {(row["key"], row["sample"]): row for row in records.read(run.folder / "drawn.csv")}
    for item in items:
        row = rows[item.key, "1"]
        assert int(row["seed"]) == seed_of(item.key, 1)
        files = [tmp_path / "references" / name for name in row["neighbors"].split()]
        assert [file.read_bytes() for file in files] == [r.path.read_bytes() for r in item.references]
        origin = provenance.read(run.folder / row["file"])
        assert (origin.prompt, origin.seed, origin.size) == (item.prompt, int(row["seed"]), 32)
        assert [source.caption for source in origin.neighbors] == [r.caption for r in item.references]
        assert 0 <= float(row["drift"]) < 255


def test_a_folder_of_another_setting_is_refused(learned: Path, tmp_path: Path) -> None:
    Run(tmp_path, Setting(weights=learned, size=16))
    Run(tmp_path, Setting(weights=learned, size=16))
    with pytest.raises(InvalidArgument, match="was drawn under another setting"):
        Run(tmp_path, Setting(weights=learned, size=32))


def test_images_of_other_weights_are_not_mixed_with_existing_ones(
    learned: Path, items: list[Item], tmp_path: Path
) -> None:
    weights, folder = shutil.copytree(learned, tmp_path / "weights"), tmp_path / "setting"
    run = Run(folder, Setting(weights=weights, size=16))
    assert draw(run, items[:1], BatchDrawer.load(weights)) == 2
    _change(weights / "stage-32.safetensors")  # an image of 16 pixels does not depend on it
    assert draw(run, items[:2], BatchDrawer.load(weights)) == 2
    _change(weights / "stage-16.safetensors")
    with pytest.raises(InvalidArgument, match="was drawn with other weights"):
        draw(run, items, BatchDrawer.load(weights))


def _change(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2] + b"\x00\x3c")


def test_bad_references_are_those_of_another_item(learned: Path, items: list[Item]) -> None:
    grounding = Grounding(items, {})
    setting = Setting(weights=learned, size=16, neighbors="references", k=1)
    (right,) = grounding.neighbors(items[0], setting, 1)
    (wrong,) = grounding.neighbors(items[0], setting.model_copy(update={"unrelated": 1}), 1)
    assert (right.caption, wrong.caption) == ("thing 0", "thing 2")
    assert grounding.neighbors(items[0], setting.model_copy(update={"skip": 1}), 1) == []
    with pytest.raises(InvalidArgument, match="no retriever for 'laion' was given"):
        grounding.check(Setting(weights=learned, size=16, neighbors="laion"))


def test_equal_settings_of_a_sweep_are_drawn_once(learned: Path, items: list[Item], tmp_path: Path) -> None:
    wanted = Sweep(
        title="",
        base=Setting(weights=learned, size=16, neighbors="references"),
        axes={
            "k": Axis(title="", values={"0": {"k": 0}, "default": {}}, count=2),
            "eta": Axis(title="", values={"0.5": {}, "1": {"stages": {"16": {"interleave_ratio": 1.0}}}}, count=3),
        },
    )
    assert list(wanted.folders()) == ["k-0", "base", "eta-1"]
    assert {name: len(found) for name, found in wanted.work(items).items()} == {"k-0": 2, "base": 3, "eta-1": 3}
    sweep.draw(wanted, items, tmp_path, grounding=Grounding(items, {}), batch_size=3)
    seeds = {
        name: {r["key"]: r["seed"] for r in records.read(tmp_path / name / "drawn.csv")} for name in wanted.folders()
    }
    assert seeds["base"] == seeds["eta-1"]
    assert seeds["k-0"].items() < seeds["base"].items()
    assert sweep.stored(tmp_path) == wanted


def test_a_sweep_is_read_from_toml_and_its_errors_name_the_field(tmp_path: Path) -> None:
    text = """
        title = "η"
        [base]
        weights = "w"
        size = 64
        stages.64.text_weight = 3.0
        [axes.eta]
        title = "η"
        paper."0.5" = "a sweet spot"
        [axes.eta.values]
        "0.25" = { stages.64.interleave_ratio = 0.25, k = 1 }
        "0.5" = {}
    """
    (tmp_path / "sweep.toml").write_text(text)
    quarter = sweep.load(tmp_path / "sweep.toml").settings("eta")["0.25"]
    assert (quarter.stages[64].interleave_ratio, quarter.stages[64].text_weight, quarter.k) == (0.25, 3.0, 1)
    (tmp_path / "sweep.toml").write_text(text.replace("interleave_ratio = 0.25", "interleave_ratio = 2.5"))
    with pytest.raises(InvalidArgument, match="interleave_ratio"):
        sweep.load(tmp_path / "sweep.toml")
    (tmp_path / "sweep.toml").write_text(text.replace('paper."0.5"', 'paper."0.6"'))
    with pytest.raises(InvalidArgument, match=r"axes\.eta: '0\.6' is not a label"):
        sweep.load(tmp_path / "sweep.toml")


_VALUES = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))


@given(st.lists(st.tuples(_VALUES, _VALUES), min_size=1, max_size=6), st.data())
def test_a_torn_table_loses_only_its_last_line(
    tmp_path_factory: pytest.TempPathFactory, content: list[tuple[str, str]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    rows = [{"a": a, "b": b} for a, b in content]
    records.append(path, rows[:-1] or rows)
    before = path.stat().st_size
    records.append(path, rows[-1:])
    assert records.read(path) == (rows if len(rows) > 1 else rows * 2)
    torn = data.draw(st.integers(before, path.stat().st_size - 1))
    with path.open("r+b") as file:
        file.truncate(torn)
    records.append(path, [{"a": "next", "b": "one"}])
    assert records.read(path) == [*(rows[:-1] or rows), {"a": "next", "b": "one"}]


def test_a_table_accepts_only_single_lines_and_its_own_columns(tmp_path: Path) -> None:
    records.append(tmp_path / "table.csv", [{"a": 1}])
    with pytest.raises(ValueError, match="must be a single line"):
        records.append(tmp_path / "table.csv", [{"a": "x\ny"}])
    with pytest.raises(ValueError, match="has the columns a, not a, b"):
        records.append(tmp_path / "table.csv", [{"a": 1, "b": 2}])
