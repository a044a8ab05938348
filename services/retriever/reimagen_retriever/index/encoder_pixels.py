"""Image preprocessing for encoders: follow preprocessor_config.json as Hugging Face's processors do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_common.images import read_image

_SIDES = tuple[int, int]


@dataclass(frozen=True)
class ImageInput:
    """The preprocessing of an image before it is encoded."""

    shortest_edge: int | None
    """Length of the shorter side after resizing, in pixels. None if `resized` is set or there is no resizing."""
    resized: _SIDES | None
    """Height and width after resizing, in pixels. None if `shortest_edge` is set or there is no resizing."""
    cropped: _SIDES | None
    """Height and width of the center crop, in pixels."""
    resample: Image.Resampling
    scale: float
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def of(cls, settings: dict[str, Any], path: Path) -> Self:
        """Read the settings of a file.

        Raises:
            InvalidArgument: The settings are invalid. The message names the file.
        """
        try:
            crop = settings.get("do_center_crop", False)
            size = settings.get("size") if settings.get("do_resize", True) else None
            # Older files have a single number: the shorter side if there is a center crop, else both sides.
            if isinstance(size, int):
                size = {"shortest_edge": size} if crop else {"height": size, "width": size}
            size = size or {}
            normalize = settings.get("do_normalize", True)
            return cls(
                shortest_edge=int(size["shortest_edge"]) if "shortest_edge" in size else None,
                resized=(int(size["height"]), int(size["width"])) if "height" in size else None,
                cropped=_sides(settings["crop_size"]) if crop else None,
                resample=Image.Resampling(settings.get("resample", Image.Resampling.BICUBIC)),
                scale=float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0,
                mean=np.array(settings["image_mean"] if normalize else [0, 0, 0], np.float32).reshape(3, 1, 1),
                deviation=np.array(settings["image_std"] if normalize else [1, 1, 1], np.float32).reshape(3, 1, 1),
            )
        except (KeyError, TypeError, ValueError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InvalidArgument(f"{path}: {problem}", field="encoder") from error

    def pixels(self, data: bytes) -> NDArray[np.float32]:
        """Return the pixels of an image file, (3, height, width)."""
        image = read_image(data, None).rgb
        if self.shortest_edge:
            shorter = min(image.size)
            width, height = (int(self.shortest_edge * side / shorter) for side in image.size)
            image = image.resize((width, height), self.resample)
        elif self.resized:
            image = image.resize((self.resized[1], self.resized[0]), self.resample)
        if self.cropped:
            height, width = self.cropped
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        channels = np.asarray(image, np.float32).transpose(2, 0, 1)
        return np.asarray((channels * np.float32(self.scale) - self.mean) / self.deviation)


def _sides(size: Any) -> _SIDES:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))
