"""A sweep: a base setting and its variations; images of the same prompt and sample share a seed in all settings.

A sweep is a TOML file:

    title = "How much the text guides"
    samples = 1                                  # images per prompt; the best of them counts

    [base]                                       # the fields of Setting
    weights = "services/generator/weights/demo"
    size = 64
    neighbors = "main"                           # needs --retriever main=host:port

    [axes.eta]
    title = "η trades the entity for the text"
    paper_says = "Decreasing η increases entity faithfulness but decreases text alignment; 0.5 is a sweet spot."
    count = 100                                  # the first items, of each group
    groups = ["held-out"]                        # only items of these groups

    [axes.eta.values]                            # one table row each; numeric labels are plotted as a curve
    "0.25" = { stages.64.interleave_ratio = 0.25 }
    "0.5" = {}
    "0.75" = { stages.64.interleave_ratio = 0.75 }
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from tqdm import tqdm

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.drawing import BatchDrawer
from reimagen_evaluation.grounding import Grounding
from reimagen_evaluation.runs import Run
from reimagen_evaluation.setting import Setting
from reimagen_evaluation.toml_file import read_toml

SWEEP = "sweep.json"
BASE = "base"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Axis(_Frozen):
    """One variation of the base setting; it becomes a section of the report."""

    title: str = Field(description="Heading of the section.")
    paper_says: str = Field("", description="The paper's claim, in one sentence.")
    note: str = Field("", description="How it was measured, for the reader.")
    groups: tuple[str, ...] = Field((), description="Groups of items to draw; empty for all.")
    count: int | None = Field(None, ge=1, description="Number of items to draw, the first of each group; None for all.")
    by_group: bool = Field(False, description="Whether the table has a row for each group.")
    values: Mapping[str, Mapping[str, Any]] = Field(
        description="Differences from the base setting, by label. `NAME @ NUMBER` is a point of the curve NAME."
    )
    against: str | None = Field(None, description="Label that differences are taken from; None for the first.")
    scores: tuple[str, ...] = Field((), description="Scores in the table; the first is compared; empty for all.")
    paper: Mapping[str, str] = Field({}, description="The paper's own figures, by label.")

    def items(self, items: Sequence[Item]) -> list[Item]:
        """Return the items that this axis draws, in their order."""
        chosen: list[Item] = []
        counts: dict[str, int] = {}
        for item in items:
            counts[item.group] = counts.get(item.group, 0) + 1
            in_groups = not self.groups or item.group in self.groups
            if in_groups and (self.count is None or counts[item.group] <= self.count):
                chosen.append(item)
        return chosen


class Sweep(_Frozen):
    """A base setting and the axes along which it is varied."""

    title: str = Field(description="Title of the report.")
    samples: int = Field(1, ge=1, le=16, description="Number of images of each item; the best of them counts.")
    base: Setting = Field(description="The base setting.")
    axes: Mapping[str, Axis] = Field(description="The axes, by names that are also used in file names.")

    @model_validator(mode="after")
    def _settings_are_sound(self) -> "Sweep":
        for name, axis in self.axes.items():
            self.settings(name)
            for label in (*axis.paper, *([axis.against] if axis.against is not None else [])):
                if label not in axis.values:
                    raise ValueError(f"axes.{name}: {label!r} is not a label of its values")
        return self

    def settings(self, axis: str) -> dict[str, Setting]:
        """Return the settings of an axis, by label."""
        base = self.base.model_dump(mode="json", exclude_unset=True)
        return {
            label: Setting.model_validate(_merged(base, changes)) for label, changes in self.axes[axis].values.items()
        }

    def folders(self) -> dict[str, Setting]:
        """Return every distinct setting by folder name; a setting that several axes share is drawn once."""
        folders: dict[str, Setting] = {}
        for axis in self.axes:
            for label, setting in self.settings(axis).items():
                if setting == self.base:
                    folders[BASE] = setting
                elif setting not in folders.values():
                    folders[re.sub(r"[^\w.-]+", "-", f"{axis}-{label}")] = setting
        return folders

    def folder(self, setting: Setting) -> str:
        """Return the name of a setting's folder."""
        return next(name for name, other in self.folders().items() if other == setting)

    def work(self, items: Sequence[Item]) -> dict[str, list[Item]]:
        """Return the items that any axis draws, by folder."""
        keys: dict[str, set[str]] = {name: set() for name in self.folders()}
        for name, axis in self.axes.items():
            for setting in self.settings(name).values():
                keys[self.folder(setting)].update(item.key for item in axis.items(items))
        return {name: [item for item in items if item.key in chosen] for name, chosen in keys.items()}


def load(path: Path) -> Sweep:
    """Read a sweep from a TOML file.

    Raises:
        InvalidArgument: a field is invalid; the message names it.
    """
    return read_toml(path, Sweep)


def stored(out: Path) -> Sweep:
    """Return the sweep that was drawn into a folder.

    Raises:
        InvalidArgument: no sweep was drawn into it.
    """
    if not (out / SWEEP).exists():
        raise InvalidArgument(f"nothing was drawn into {out} yet; run `reimagen-evaluate sweep` first")
    return Sweep.model_validate_json((out / SWEEP).read_text())


def draw(
    sweep: Sweep,
    items: Sequence[Item],
    out: Path,
    *,
    grounding: Grounding,
    batch_size: int,
    text_encoder: Path | None = None,
) -> None:
    """Draw every setting's missing images, with a progress bar that estimates the remaining time.

    Raises:
        ValueError: a cascade cannot be loaded.
        ReimagenError: a setting does not suit its cascade, or neighbors cannot be found.
    """
    folders = sweep.folders()
    for setting in folders.values():
        grounding.check(setting)
    out.mkdir(parents=True, exist_ok=True)
    records.replace(out / SWEEP, sweep.model_dump_json(indent=2, exclude_unset=True).encode())
    work = {name: to_draw for name, to_draw in sweep.work(items).items() if to_draw}
    runs = {name: Run(out / name, folders[name]) for name in work}
    missing = {name: len(runs[name].missing(to_draw, sweep.samples)) for name, to_draw in work.items()}
    drawers: dict[Path, BatchDrawer] = {}
    with ExitStack() as closing:
        bar = closing.enter_context(tqdm(total=sum(missing.values()), unit="image", smoothing=0.05))
        for name, run in sorted(runs.items(), key=lambda named: str(named[1].setting.weights)):
            if not missing[name]:
                continue
            weights = run.setting.weights
            if weights not in drawers:
                drawers = {weights: BatchDrawer.load(weights, text_encoder)}  # one large cascade at a time
            bar.set_description(name)
            run.draw(
                work[name],
                samples=sweep.samples,
                drawer=drawers[weights],
                grounding=grounding,
                batch_size=batch_size,
                done=bar.update,
            )


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge changes into the base, recursively; keys that are sizes are compared as text."""
    merged = {str(key): value for key, value in base.items()}
    for key, value in changes.items():
        before = merged.get(str(key))
        within = isinstance(value, Mapping) and isinstance(before, Mapping)
        merged[str(key)] = _merged(before or {}, value) if within else value
    return merged
