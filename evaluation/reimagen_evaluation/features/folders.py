"""The images of a folder in order: its image files, or the images of its shards."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from reimagen_common.hidden import is_hidden
from reimagen_common.images import IMAGE_ENDINGS
from reimagen_evaluation.judges.judge import Pixels
from reimagen_generator.diffusion.references import decode


class ImageFolder:
    """The image files of a folder and its subfolders, or the images of its shards. Hidden files are ignored.

    In a WebDataset shard the images are the members called `KEY.png` or similar: a sample's own image, without its
    neighbors.
    """

    def __init__(self, folder: Path, square: int | None = None) -> None:
        """List the images.

        Args:
            folder: folder of images or of shards.
            square: side in pixels to resize the largest centered square of each image to; None leaves images as they
                are.

        Raises:
            ValueError: the folder has no images.
        """
        self._folder = folder
        self._square = square
        files = [path for path in folder.glob("*") if not is_hidden(path.name)]
        self._shards = sorted(path for path in files if path.suffix.lower() == ".tar")
        if self._shards:
            self._names = [(shard, name) for shard in self._shards for name in _members(shard)]
        else:
            files = sorted(path for path in folder.rglob("*") if _is_image(str(path.relative_to(folder))))
            self._names = [(path, path.name) for path in files]
        if not self._names:
            raise ValueError(f"images: {folder} holds neither images (*.png, *.jpg...) nor shards (*.tar)")

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Pixels]:
        """Yield the images in the order of their names.

        Raises:
            InvalidArgument: an image cannot be read; the message names it.
        """
        for data, name in self._files():
            image = decode(data, field=name)
            yield image if self._square is None else middle_square(image, self._square)

    def _files(self) -> Iterator[tuple[bytes, str]]:
        if not self._shards:
            for path, _ in self._names:
                yield path.read_bytes(), str(path)
            return
        for shard in self._shards:
            with tarfile.open(shard) as tar:
                for member in tar:
                    file = tar.extractfile(member) if _is_image_of_a_sample(member.name) else None
                    if file is not None:
                        yield file.read(), f"{shard}: {member.name}"


def middle_square(image: Pixels, side: int) -> Pixels:
    """Return the largest centered square, resized with antialiasing."""
    height, width, _ = image.shape
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = Image.fromarray(image[top : top + edge, left : left + edge])
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC))


def _members(shard: Path) -> list[str]:
    try:
        with tarfile.open(shard) as tar:
            return [member.name for member in tar if member.isfile() and _is_image_of_a_sample(member.name)]
    except tarfile.TarError as error:
        raise ValueError(f"images: cannot read {shard}: {error}") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_ENDINGS) and not is_hidden(name)


def _is_image_of_a_sample(name: str) -> bool:
    """Return whether a member is a sample's own image: KEY.png, but not KEY.neighbor0.png."""
    return _is_image(name) and Path(name).name.count(".") == 1
