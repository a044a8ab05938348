import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation.features.folders import ImageFolder, middle_square


def png(gray: int, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (gray, gray, gray)).save(buffer, "PNG")
    return buffer.getvalue()


def test_images_of_nested_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.png").write_bytes(png(2, (6, 9)))
    (tmp_path / "1.PNG").write_bytes(png(1))
    (tmp_path / "drawn.csv").write_text("no image")
    for hidden in (tmp_path / "._1.png", tmp_path / "b" / "._2.png", tmp_path / "._0.tar"):
        hidden.write_bytes(b"\0\5\x16\7")
    images = ImageFolder(tmp_path)
    assert len(images) == 2
    assert [(image.shape, image[0, 0, 0]) for image in images] == [((8, 8, 3), 1), ((9, 6, 3), 2)]


def test_shards_give_images_without_their_neighbors(tmp_path: Path) -> None:
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as shard:
            for name, data in (
                (f"{number}.txt", b"a"),
                (f"._{number}.png", b"\0\5\x16\7"),
                (f"{number}.png", png(number)),
                (f"{number}.neighbor0.png", png(9)),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    images = ImageFolder(tmp_path)
    assert len(images) == 2
    assert [image[0, 0, 0] for image in images] == [0, 1]


def test_images_are_cropped_to_the_central_square() -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 200
    assert (middle_square(image, 10) == 200).all()
    assert middle_square(image, 10).shape == (10, 10, 3)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds neither images"):
        ImageFolder(tmp_path)
    (tmp_path / "broken.png").write_bytes(png(1)[:30])
    with pytest.raises(InvalidArgument, match="broken image"):
        list(ImageFolder(tmp_path))
    (tmp_path / "0.tar").write_bytes(b"no tar")
    with pytest.raises(ValueError, match=r"0\.tar"):
        ImageFolder(tmp_path)
