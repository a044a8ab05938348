"""The relevance benchmark: whether a search finds the entity that a prompt names, in bases with captions by others."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).with_name("data")
BASES = ("labels", "sentences", "long")


@dataclass(frozen=True)
class Caption:
    """A caption and the id of its pair."""

    id: str
    text: str


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the ids of the pairs that show what it names; empty if the base has none."""

    kind: str
    text: str
    right: Sequence[str]

    @property
    def held_back(self) -> bool:
        """Whether the prompt belongs to the half that was not used to choose the rules."""
        return hashlib.sha256(self.text.encode()).digest()[0] % 2 == 1


def write(folder: Path, name: str, captions: Sequence[Caption], prompts: Sequence[Prompt]) -> None:
    """Write the captions and prompts of a base as tab-separated values."""
    folder.mkdir(exist_ok=True)
    rows = [[caption.id, caption.text] for caption in captions]
    _write_rows(folder / f"{name}.captions.tsv", ["id", "caption"], rows)
    rows = [[prompt.kind, prompt.text, " ".join(prompt.right)] for prompt in prompts]
    _write_rows(folder / f"{name}.prompts.tsv", ["kind", "prompt", "right"], rows)


def read(name: str, folder: Path = DATA) -> tuple[list[Caption], list[Prompt]]:
    """Read the captions and prompts of a base."""
    captions = [Caption(*row) for row in _read_rows(folder / f"{name}.captions.tsv")]
    prompts = [
        Prompt(kind, text, tuple(right.split())) for kind, text, right in _read_rows(folder / f"{name}.prompts.tsv")
    ]
    return captions, prompts


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, "excel-tab", lineterminator="\n")
        writer.writerows([header, *rows])


def _read_rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, "excel-tab"))[1:]
