"""An item of a benchmark: a prompt, what its image should show, and references to ground the image on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reference:
    """A pair that an image can be grounded on and compared with.

    Attributes:
        path: image file, of any size.
        caption: text that says what the image shows.
    """

    path: Path
    caption: str


@dataclass(frozen=True)
class Item:
    """One prompt of a benchmark.

    Attributes:
        key: id within the benchmark; only letters, digits, `-`, `_` and `.`, because file names contain it.
        prompt: text of the image to draw.
        entities: entities that the image should show; the first is the subject.
        scene: what else the image should show; empty if the prompt names nothing else.
        group: table row that the item belongs to: a category, "frequent", "held-out".
        references: the item's own pairs, if the benchmark has them.
    """

    key: str
    prompt: str
    entities: tuple[str, ...]
    scene: str
    group: str
    references: tuple[Reference, ...] = ()

    def __post_init__(self) -> None:
        if not self.key or not all(letter.isalnum() or letter in "-_." for letter in self.key):
            raise ValueError(f"key: must be letters, digits, -, _ and . only, got {self.key!r}")
