"""Draw a benchmark's items under one setting into a folder; a run that was killed at any moment resumes.

OUT/SETTING/setting.json           the setting
OUT/SETTING/weights.sha256         digest of the cascade up to the setting's size
OUT/SETTING/drawn.csv              one line per image
OUT/SETTING/images/KEY.0.png       (.webp above 256 pixels) with its provenance inside
OUT/references/SHA256.png          the images' references, one file each for all settings
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.drawing import BatchDrawer, seed_of
from reimagen_evaluation.grounding import Grounding
from reimagen_evaluation.setting import Setting
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.diffusion.cascade import Images
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.references import ReferencePair, decode
from reimagen_generator.generation import provenance
from reimagen_generator.generation.relevance import relevant
from reimagen_generator.generation.request import OutputFormat
from reimagen_generator.generation.retriever_client import Neighbor

DRAWN = "drawn.csv"
_LARGEST_PNG = 256
"""Largest side in pixels of images that are stored without loss, as PNG."""


@dataclass(frozen=True)
class Task:
    """An image to draw."""

    item: Item
    sample: int
    neighbors: tuple[Neighbor, ...]

    @property
    def seed(self) -> int:
        """The seed of the image."""
        return seed_of(self.item.key, self.sample)


class Run:
    """The images of one setting in a folder."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        """Open the folder, or create it.

        Raises:
            InvalidArgument: it holds images of another setting.
        """
        self.folder = folder
        self.setting = setting
        (folder / "images").mkdir(parents=True, exist_ok=True)
        self._note(
            "setting.json", setting.model_dump_json(indent=2), Setting.model_validate_json, "under another setting"
        )

    def _note(self, name: str, text: str, read: Callable[[str], object], otherwise: str) -> None:
        note = self.folder / name
        if not note.exists():
            records.replace(note, text.encode())
        elif read(note.read_text()) != read(text):
            raise InvalidArgument(
                f"{self.folder} was drawn {otherwise}, see its {name}; remove the folder or use another"
            )

    def missing(self, items: Sequence[Item], samples: int) -> list[tuple[Item, int]]:
        """Return the items and sample numbers that are not drawn yet, all first samples first."""
        done = {(row["key"], int(row["sample"])) for row in records.read(self.folder / DRAWN)}
        requested = [(item, sample) for sample in range(samples) for item in items]
        return [(item, sample) for item, sample in requested if (item.key, sample) not in done]

    def draw(
        self,
        items: Sequence[Item],
        *,
        samples: int,
        drawer: BatchDrawer,
        grounding: Grounding,
        batch_size: int,
        done: Callable[[int], object],
    ) -> None:
        """Draw the missing images.

        Args:
            items: items of the benchmark.
            samples: number of images of each item.
            drawer: drawer with the setting's cascade.
            grounding: source of the items' neighbors.
            batch_size: number of images drawn at once. The last batch is filled up to avoid another compilation.
            done: called after each batch with its number of images.

        Raises:
            InvalidArgument: the folder holds images of other weights.
            ReimagenError: the retriever failed, or a neighbor's image cannot be decoded.
        """
        grounding.check(self.setting)
        digest = drawer.digest(self.setting.size)
        self._note("weights.sha256", digest, str, "with other weights or another cascade.json")
        tasks = (
            Task(item, sample, self._neighbors(item, grounding, drawer.config))
            for item, sample in self.missing(items, samples)
        )
        for batch in _batches(tasks, batch_size):
            started = time.monotonic()
            rows = [
                Row(task.item.prompt, [_pair(neighbor) for neighbor in task.neighbors], task.seed) for task in batch
            ]
            stages = drawer.draw([*rows, *[rows[-1]] * (batch_size - len(rows))], self.setting)
            seconds = (time.monotonic() - started) / len(batch)
            self._save(batch, stages, drawer.config.name, seconds)
            done(len(batch))

    def _neighbors(self, item: Item, grounding: Grounding, config: CascadeConfig) -> tuple[Neighbor, ...]:
        found = grounding.neighbors(item, self.setting, self.setting.neighbors_of(config))
        return tuple(relevant(item.prompt, found) if self.setting.judges_relevance(config) else found)

    def _save(self, batch: Sequence[Task], stages: Sequence[Images], cascade: str, seconds: float) -> None:
        rows = []
        for index, task in enumerate(batch):
            images = [stage[index] for stage in stages]
            file = self._write(task, images[-1], cascade)
            rows.append(
                {
                    "key": task.item.key,
                    "sample": task.sample,
                    "seed": task.seed,
                    "file": file.relative_to(self.folder),
                    "neighbors": " ".join(self._reference(neighbor) for neighbor in task.neighbors),
                    "drift": f"{_drift(images):.3f}",
                    "seconds": f"{seconds:.3f}",
                }
            )
        records.append(self.folder / DRAWN, rows)

    def _write(self, task: Task, pixels: np.ndarray, cascade: str) -> Path:
        suffix: OutputFormat = "png" if pixels.shape[0] <= _LARGEST_PNG else "webp"
        file = self.folder / "images" / f"{task.item.key}.{task.sample}.{suffix}"
        origin = provenance.Provenance(
            prompt=task.item.prompt,
            seed=task.seed,
            size=self.setting.size,
            cascade=cascade,
            neighbors=tuple(provenance.Source(n.id, n.caption, n.source, n.license) for n in task.neighbors),
            guidance={
                str(size): change.model_dump(mode="json", exclude_defaults=True)
                for size, change in self.setting.stages.items()
            },
        )
        records.replace(file, provenance.encode(pixels, suffix, origin))
        return file

    def _reference(self, neighbor: Neighbor) -> str:
        """Store a neighbor's image in the sweep's folder of references, and return its file name."""
        name = hashlib.sha256(neighbor.image).hexdigest()[:16]
        folder = self.folder.parent / "references"
        folder.mkdir(exist_ok=True)
        if not (folder / name).exists():
            records.replace(folder / name, neighbor.image)
        return name


def _batches(tasks: Iterator[Task], size: int) -> Iterator[list[Task]]:
    """Yield batches of `size` tasks, the last ones smaller; tasks without neighbors are in separate batches."""
    waiting: dict[bool, list[Task]] = {True: [], False: []}
    for task in tasks:
        batch = waiting[bool(task.neighbors)]
        batch.append(task)
        if len(batch) == size:
            yield batch.copy()
            batch.clear()
    yield from (batch for batch in waiting.values() if batch)


def _pair(neighbor: Neighbor) -> ReferencePair:
    try:
        return ReferencePair(decode(neighbor.image, field=neighbor.id or neighbor.caption), neighbor.caption)
    except InvalidArgument as error:
        raise ReimagenError(f"the reference {error.message}") from error


def _drift(stages: Sequence[np.ndarray]) -> float:
    """Return the largest mean difference, of 255, between an earlier stage's image and the shrunk last image."""
    last = Image.fromarray(stages[-1])
    shrunk = [np.asarray(last.resize(stage.shape[:2], Image.Resampling.BOX), np.float64) for stage in stages]
    return max(float(np.abs(a - b).mean()) for a, b in zip(shrunk, stages, strict=True))
