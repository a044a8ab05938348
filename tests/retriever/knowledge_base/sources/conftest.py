"""Small files of the sources' real formats."""

import base64
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

MakeParquet = Callable[[Path, Sequence[Mapping[str, object]]], Path]
MakeShard = Callable[..., Path]
MakeWebQA = Callable[[Mapping[int, tuple[str, bytes]]], Path]
MakeCoco = Callable[[Mapping[int, Sequence[str]]], Path]

# As img2dataset names them, with LAION's columns kept by --save_additional_columns.
IMG2DATASET = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("NSFW", "LICENSE", "caption", "url", "key", "status")),
        pa.field("similarity", pa.float64()),
        pa.field("punsafe", pa.float64()),
        pa.field("pwatermark", pa.float64()),
        pa.field("SAMPLE_ID", pa.int64()),
        pa.field("error_message", pa.string()),
        *(pa.field(name, pa.int32()) for name in ("width", "height", "original_width", "original_height")),
        pa.field("exif", pa.string()),
        pa.field("sha256", pa.string()),
    ]
)


@pytest.fixture(scope="session")
def parquet_file() -> MakeParquet:
    """Return a function that writes rows as a Parquet file, five rows per group."""

    def make(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        names = dict.fromkeys(name for row in rows for name in row)
        table = pa.table({name: [row.get(name) for row in rows] for name in names})
        parquet.write_table(table, path, row_group_size=5)
        return path

    return make


@pytest.fixture
def img2dataset(tmp_path: Path) -> MakeShard:
    """Return a function that writes a shard like img2dataset; a row without an image is a failed download."""

    def make(rows: Sequence[Mapping[str, Any]], number: int = 0, folder: Path = tmp_path / "shards") -> Path:
        folder.mkdir(exist_ok=True)
        table = []
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for position, given in enumerate(rows):
                image = given.get("image")
                key = f"{number:05d}{position:04d}"
                row = dict.fromkeys(IMG2DATASET.names) | {"status": "success" if image else "failed_to_download"}
                row |= {name: value for name, value in given.items() if name != "image"} | {"key": key}
                table.append(row)
                if image:
                    caption = str(row["caption"] or "")
                    note = json.dumps(row, indent=4)
                    for kind, data in (("jpg", image), ("txt", caption.encode()), ("json", note.encode())):
                        member = tarfile.TarInfo(f"{key}.{kind}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
        parquet.write_table(pa.Table.from_pylist(table, IMG2DATASET), folder / f"{number:05d}.parquet")
        (folder / f"{number:05d}_stats.json").write_text(json.dumps({"count": len(rows)}))
        return folder

    return make


@pytest.fixture
def webqa(tmp_path: Path) -> MakeWebQA:
    """Return a function that writes WebQA's three files from captions and images by id."""

    def make(pictures: Mapping[int, tuple[str, bytes]]) -> Path:
        folder = tmp_path / "webqa"
        folder.mkdir()
        facts = [
            {"image_id": image_id, "title": "File:x.jpg", "caption": caption, "url": f"https://wiki/{image_id}"}
            for image_id, (caption, _) in pictures.items()
        ]
        questions = {
            "d5a1": {"Q": '"?"', "split": "train", "img_posFacts": facts[:1], "img_negFacts": facts[1:]},
            "d5a2": {"Q": '"?"', "split": "val", "img_posFacts": facts[-1:], "img_negFacts": [], "txt_posFacts": []},
        }
        (folder / "WebQA_train_val.json").write_text(json.dumps(questions))
        places, place = [], 0
        with (folder / "imgs.tsv").open("wb") as file:
            for image_id, (_, image) in pictures.items():
                places.append(place)
                place += file.write(f"{image_id}\t".encode() + base64.b64encode(image) + b"\n")
        (folder / "imgs.lineidx").write_text("".join(f"{place}\n" for place in places))
        return folder

    return make


@pytest.fixture
def coco(tmp_path: Path, make_image: Callable[..., bytes]) -> MakeCoco:
    """Return a function that writes a folder like COCO's archives, from captions by image."""

    def make(captions: Mapping[int, Sequence[str]], split: str = "val2017") -> Path:
        folder = tmp_path / "coco"
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        (folder / split).mkdir()
        images, annotations = [], []
        for image_id, texts in captions.items():
            name = f"{image_id:012d}.jpg"
            (folder / split / name).write_bytes(make_image(kind="JPEG"))
            url = f"http://images.cocodataset.org/{split}/{name}"
            images.append({"id": image_id, "file_name": name, "license": 4, "coco_url": url, "width": 8, "height": 6})
            # The file has captions in no order, and ids that grow with it.
            annotations += [
                {"image_id": image_id, "id": 1000 * image_id + number, "caption": text}
                for number, text in enumerate(texts)
            ]
        licenses = [{"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}]
        content = {"info": {}, "licenses": licenses, "images": images, "annotations": annotations[::-1]}
        (folder / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))
        return folder

    return make
