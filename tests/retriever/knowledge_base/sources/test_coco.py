import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source

MakeCoco = Callable[..., Path]
CAPTIONS = {139: ["A fox in snow.", "the red fox ", "fox!"], 285: ["A kea"]}


def entries(folder: Path, skip: int = 0) -> list[SourcePair | Rejected]:
    return list(open_source(folder).entries(skip))


def test_an_image_is_one_pair_with_all_its_captions(coco: MakeCoco) -> None:
    folder = coco(CAPTIONS)
    fox, kea = entries(folder)
    url = "http://images.cocodataset.org/val2017/000000000139.jpg"
    image = (folder / "val2017" / "000000000139.jpg").read_bytes()
    assert fox == SourcePair(
        "captions_val2017.json/139", "139", "A fox in snow. the red fox. fox!", image, url, "Attribution License"
    )
    assert isinstance(kea, SourcePair)
    assert (kea.id, kea.caption) == ("285", "A kea.")
    assert entries(folder, 1) == [kea]
    assert open_source(folder).size() == 2


def test_both_splits_are_read(coco: MakeCoco) -> None:
    coco({7: ["a panda"]}, "train2017")
    folder = coco(CAPTIONS)
    assert [entry.id for entry in entries(folder) if isinstance(entry, SourcePair)] == ["7", "139", "285"]


@pytest.mark.parametrize("location", ["images/val2017", "images", "."])
def test_other_locations_of_the_images_are_searched(coco: MakeCoco, location: str) -> None:
    folder = coco(CAPTIONS)
    (folder / location).mkdir(parents=True, exist_ok=True)
    for path in (folder / "val2017").iterdir():
        path.rename(folder / location / path.name)
    assert len([entry for entry in entries(folder) if isinstance(entry, SourcePair)]) == 2


def test_images_missing_or_outside_the_folder_are_reported(coco: MakeCoco, tmp_path: Path) -> None:
    folder = coco(CAPTIONS)
    (folder / "val2017" / "000000000139.jpg").unlink()
    annotations = folder / "annotations" / "captions_val2017.json"
    annotations.write_text(annotations.read_text().replace("000000000285.jpg", "../../secret.jpg"))
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    reasons = [(entry.location, entry.reason) for entry in entries(folder) if isinstance(entry, Rejected)]
    assert reasons == [
        ("captions_val2017.json/139", "unreadable file"),
        ("captions_val2017.json/285", "path outside the source"),
    ]


def test_invalid_captions_of_an_image_are_reported(coco: MakeCoco) -> None:
    folder = coco(CAPTIONS)
    annotations = folder / "annotations" / "captions_val2017.json"
    content = json.loads(annotations.read_text())
    content["annotations"] += [{"image_id": 139}, {"image_id": 7, "id": 1, "caption": "a dog"}]
    content["annotations"] += [{"image_id": 285, "id": 2 * 10**6, "caption": value} for value in (None, float("nan"))]
    content["images"] += [{"id": 500}, {"id": 501, "file_name": "000000000139.jpg", "coco_url": float("nan")}]
    annotations.write_text(json.dumps(content))
    (annotations.parent / "captions_val2017_results.json").write_text('[{"image_id": 139, "caption": "a fox"}]')
    (annotations.parent / "captions_test2017.json").write_text("{")
    (annotations.parent / "instances_val2017.json").write_text("{}")
    (folder / "val2017" / "000000000009.jpg").write_bytes(b"x")
    source = open_source(folder)
    assert [(entry.id, entry.caption) for entry in source.entries() if isinstance(entry, SourcePair)] == [
        ("139", "A fox in snow. the red fox. fox!"),
        ("285", "A kea."),
        ("501", ""),
    ]
    assert [(left.location, left.reason) for left in source.left_over()] == [
        ("annotations/captions_test2017.json", "not a COCO caption file"),
        ("captions_val2017.json/images/2", "broken image entry"),
        ("captions_val2017.json/annotations/4", "broken caption"),
        ("captions_val2017.json/7", "no image"),
        ("annotations/captions_val2017_results.json", "not a COCO caption file"),
        ("annotations/instances_val2017.json", "not in the captions"),
        ("val2017/000000000009.jpg", "not in the captions"),
    ]


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"images": [], "annotations": [{}]}', '{"images": 1, "annotations": []}']
)
def test_other_files_than_cocos_are_refused(coco: MakeCoco, content: str) -> None:
    folder = coco(CAPTIONS)
    (folder / "annotations" / "captions_val2017.json").write_text(content)
    with pytest.raises(InvalidArgument, match=r"source: annotations/captions_val2017.json is not a COCO caption file"):
        open_source(folder)


def test_an_annotations_file_alone_is_refused(coco: MakeCoco) -> None:
    folder = coco(CAPTIONS)
    assert json.loads((folder / "annotations" / "captions_val2017.json").read_text())["images"]
    with pytest.raises(InvalidArgument, match=r"source: .* is neither a folder, a WebDataset shard"):
        open_source(folder / "annotations" / "captions_val2017.json")
