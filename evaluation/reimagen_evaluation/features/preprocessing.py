"""Image preprocessing as a model's `preprocessor_config.json` describes it."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reimagen_common.errors import first_fault
from reimagen_evaluation.features.network import Images


class _Sides(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int | None = Field(None, ge=1)
    width: int | None = Field(None, ge=1)
    shortest_edge: int | None = Field(None, ge=1)


class Preprocessing(BaseModel):
    """The fields of transformers' `preprocessor_config.json` that change pixels, by their names there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    size: int | _Sides = Field(
        description="Size after resizing, in pixels. One number is the shorter edge if a crop follows, else both edges."
    )
    crop_size: int | _Sides | None = None
    do_center_crop: bool = False
    resample: int = Field(2, description="Pillow's number of the resampling filter: 2 is bilinear, 3 bicubic.")
    rescale_factor: float = Field(1 / 255, gt=0)
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]

    @classmethod
    def load(cls, folder: Path) -> "Preprocessing":
        """Read `preprocessor_config.json`.

        Raises:
            ValueError: it is missing or invalid.
        """
        path = folder / "preprocessor_config.json"
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise ValueError(f"features: cannot read {path}: {error}") from error
        except ValidationError as error:
            raise ValueError(
                f"features: {path} is not a valid preprocessor_config.json: {first_fault(error)}"
            ) from error

    @property
    def side(self) -> int:
        """The side in pixels of the prepared square.

        Raises:
            ValueError: prepared images are not square.
        """
        size = self.crop_size if self.do_center_crop and self.crop_size is not None else self.size
        edges = {size} if isinstance(size, int) else {size.height, size.width}
        if len(edges) != 1 or None in edges:
            raise ValueError(f"features: size or crop_size must be a square, got {size!r}")
        return int(edges.pop() or 0)

    def __call__(self, images: Images) -> Float[np.ndarray, "batch side side 3"]:
        """Resize images, crop their center, and normalize each channel."""
        squares = [np.asarray(self._square(Image.fromarray(image)), np.float32) for image in images]
        mean, deviation = (np.array(channels, np.float32) for channels in (self.image_mean, self.image_std))
        prepared: Float[np.ndarray, "batch side side 3"] = (np.stack(squares) * self.rescale_factor - mean) / deviation
        return prepared

    def _square(self, image: Image.Image) -> Image.Image:
        resized = image.resize(self._resized(image.size), Image.Resampling(self.resample))
        left, top = ((edge - self.side) // 2 for edge in resized.size)
        # If the image is smaller than the crop, the area outside it is black.
        return resized.crop((left, top, left + self.side, top + self.side))

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        if isinstance(self.size, int):
            shortest = self.size if self.do_center_crop else None
            both = (self.size, self.size)
        else:
            shortest = self.size.shortest_edge
            both = (self.size.width or self.side, self.size.height or self.side)
        if shortest is None:
            return both
        short, long = min(size), max(size)
        longest = int(shortest * long / short)
        return (shortest, longest) if size[0] == short else (longest, shortest)
