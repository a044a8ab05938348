"""An item of a benchmark: a prompt, what it should show, and images to ground the drawing on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reference:
    """A pair that an image may be grounded on, and be compared with.

    Attributes:
        path: an image file, of any size.
        caption: what it shows.
    """

    path: Path
    caption: str


@dataclass(frozen=True)
class Item:
    """One prompt of a benchmark.

    Attributes:
        key: names it among the items of its benchmark; letters, digits, `-`, `_` and `.` alone, for files have it.
        prompt: what is to be drawn.
        entities: what the image should show; the first is the subject.
        scene: what else it should show, empty where the prompt says no more.
        group: the row of a table that it belongs to: a category, "frequent", "held-out".
        references: its own pairs, where the benchmark has them.
    """

    key: str
    prompt: str
    entities: tuple[str, ...]
    scene: str
    group: str
    references: tuple[Reference, ...] = ()

    def __post_init__(self) -> None:
        if not self.key or not all(letter.isalnum() or letter in "-_." for letter in self.key):
            raise ValueError(f"key: must be letters, digits, -, _ and . alone, got {self.key!r}")
