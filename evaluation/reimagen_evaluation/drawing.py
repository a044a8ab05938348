"""Drawing batches of images of different prompts, under settings, with a cascade."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from reimagen_evaluation.setting import Setting, StageChange
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.diffusion.cascade import Cascade, Images
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.weights import checkpoint


def seed_of(key: str, sample: int) -> int:
    """Return the seed of an item's image, from its key and number alone: all settings start from the same noise."""
    return int.from_bytes(hashlib.sha256(f"{key}/{sample}".encode()).digest()[:4], "big")


class BatchDrawer:
    """A cascade that draws under settings."""

    def __init__(self, cascade: Cascade, folder: Path) -> None:
        """Take a cascade and the folder that it was loaded from."""
        self._cascade = cascade
        self._folder = folder

    @classmethod
    def load(cls, folder: Path, text_encoder: Path | None = None) -> Self:
        """Load a cascade's folder; see `Cascade.load`.

        Raises:
            ValueError: a file is missing or damaged.
        """
        return cls(Cascade.load(folder, text_encoder), folder)

    @property
    def config(self) -> CascadeConfig:
        """The cascade's configuration, before any setting."""
        return self._cascade.config

    def digest(self, size: int) -> str:
        """Return the digest of what an image of a size depends on; see `checkpoint.digest`."""
        return checkpoint.digest(self._folder, size)

    def draw(self, rows: Sequence[Row], setting: Setting) -> tuple[Images, ...]:
        """Draw the rows under a setting; return the images of each stage, the smallest first.

        Raises:
            ValueError: a row has more neighbors than the setting allows, or the cascade cannot be set so.
        """
        stages = setting.change(self.config)
        grounded = [setting.stages.get(stage.size, StageChange()).grounded for stage in stages]
        return self._cascade.draw_rows(rows, stages, max(1, setting.neighbors_of(self.config)), grounded)
