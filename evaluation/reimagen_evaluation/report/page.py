"""Write the page of results: tables, plots, sheets, and the CSV that they are made from."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from reimagen_evaluation import scoring
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.report import failures, plots, sheets, tables
from reimagen_evaluation.report import scores as scored
from reimagen_evaluation.report.failures import Failure
from reimagen_evaluation.report.scores import Scores
from reimagen_evaluation.setting import NONE, Setting
from reimagen_evaluation.sweep import Sweep

_SHEET_ITEMS = 6
_INTERVALS = (
    "Each figure has its 95 % confidence interval in brackets: Wilson's for shares of images, the bootstrap's for "
    "means and differences. Differences are paired: the same prompts, from the same noise. n is the number of prompts"
)


def write(
    sweep: Sweep,
    items: Sequence[Item],
    out: Path,
    page: Path,
    *,
    preface: str = "",
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write PAGE.md, and next to it a folder of the same name with plots, sheets and scores.csv.

    Args:
        sweep: the sweep that was drawn.
        items: items of the benchmark.
        out: folder of the sweep.
        page: the Markdown file.
        preface: text below the title.
        notes: text below an axis's table, by the axis's name.

    Raises:
        InvalidArgument: there are no scores.
    """
    scores = scored.read(out)
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != out.resolve():  # the CSV is already there if the page is written into the sweep's folder
        shutil.copyfile(out / scoring.SCORES, folder / scoring.SCORES)
    best = f"; the best of {sweep.samples} images of a prompt counts" if sweep.samples > 1 else ""
    parts = [f"# {sweep.title}", *([preface] if preface else []), f"{_INTERVALS}{best}."]
    for name in sweep.axes:
        parts += _section(sweep, name, items, out, folder, scores, (notes or {}).get(name, ""))
    parts += _failures(sweep, items, out, folder, scores)
    parts.append(f"Every table is made from [{scoring.SCORES}]({folder.name}/{scoring.SCORES}).")
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _section(
    sweep: Sweep, name: str, items: Sequence[Item], out: Path, folder: Path, scores: Scores, note: str
) -> list[str]:
    axis = sweep.axes[name]
    parts = [f"## {axis.title}"]
    parts += [f"The paper: {axis.paper_says}"] if axis.paper_says else []
    parts += [axis.note] if axis.note else []
    parts.append(tables.table(sweep, name, items, scores))
    rows = tables.lines(sweep, name, items)
    names = tables.shown(axis, scores, rows)
    if names and len(rows) > 1:
        plots.plot(axis.title, rows, names, scores, folder / f"{name}.svg")
        parts.append(f"![{axis.title}]({folder.name}/{name}.svg)")
    parts += [note] if note else []
    strips = sheets.comparison(out, rows, axis.items(items), _SHEET_ITEMS)
    if strips:
        sheets.save(sheets.sheet(strips), folder / f"{name}.webp")
        parts.append(f"![The first prompts of each group, not selected]({folder.name}/{name}.webp)")
    return parts


def _failures(sweep: Sweep, items: Sequence[Item], out: Path, folder: Path, scores: Scores) -> list[str]:
    """Return the section of failures.

    The failures are those of the base setting; for prompts that it does not draw, those of the first setting that does.
    """
    if "faithful" not in scores.names:
        return []
    found: list[Failure] = []
    taken: set[str] = set()
    of_axes = [(next(iter(sweep.settings(name).values())), axis.items(items)) for name, axis in sweep.axes.items()]
    for setting, drawable in [(sweep.base, items), *of_axes, *((each, items) for each in sweep.folders().values())]:
        # A sweep of few axes may not draw the base setting.
        if (
            setting.neighbors == NONE
            or setting.weights != sweep.base.weights
            or setting not in sweep.folders().values()
        ):
            continue
        setting_name = sweep.folder(setting)
        drawn = scores.by_setting.get(setting_name, {})
        fresh = [item for item in drawable if item.key in drawn and item.key not in taken]
        taken |= {item.key for item in fresh}
        found += failures.failures(out, setting_name, _without(sweep, setting), fresh, scores)
    if not found:
        return []
    lines = [f"| {kind} | {sum(f.kind == kind for f in found)} | {rule} |" for kind, rule in failures.KINDS.items()]
    sheets.save(sheets.sheet(failures.strips(found, 4)), folder / "failures.webp")
    return [
        "## Failures",
        f"{len(found)} images that are not faithful, of those also drawn without neighbors or rated, by kind:",
        "\n".join(["| kind | prompts | rule |", "|---|---|---|", *lines]),
        f"![The first of each kind]({folder.name}/failures.webp)",
    ]


def _without(sweep: Sweep, setting: Setting) -> str | None:
    """Return the folder of the same setting without neighbors, if it was drawn."""
    return next(
        (name for name, other in sweep.folders().items() if other.neighbors == NONE and _alike(other, setting)), None
    )


def _alike(a: Setting, b: Setting) -> bool:
    """Return whether two settings differ only in their neighbors."""
    blind = {"neighbors": NONE, "k": None, "method": "", "per_entity": False, "skip": 0, "unrelated": 0}
    return a.model_copy(update=blind) == b.model_copy(update=blind)
