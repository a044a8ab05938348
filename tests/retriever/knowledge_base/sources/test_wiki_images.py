import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation.benches import wiki_images as evaluation
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.knowledge_base.sources import open_source

MakeWebQA = Callable[[Mapping[int, tuple[str, bytes]]], Path]

# WebQA's numbers: tens of millions for the source, then the line.
IMAGES = {
    30_000_000: ("The Fox Theatre in Atlanta", b"first"),
    10_000_001: ("A kea  on\n a rock", b"second"),
    30_000_002: ("Paris in 1987", b"third"),
    30_000_003: (" ".join(["word"] * 16), b"fourth"),
    30_000_004: ("Castle DSC_0423", b"fifth"),
}


def entries(folder: Path, skip: int = 0) -> list[SourcePair | Rejected]:
    return list(open_source(folder).entries(skip))


def test_wiki_images_keeps_the_papers_captions(webqa: MakeWebQA) -> None:
    folder = webqa(IMAGES)
    fox, kea, *left_out = everything = entries(folder)
    place = "WebQA_train_val.json/d5a1"
    assert fox == SourcePair(
        f"{place}/img_posFacts/0", "30000000", "The Fox Theatre in Atlanta", b"first", "https://wiki/30000000"
    )
    assert kea == SourcePair(
        f"{place}/img_negFacts/0", "10000001", "A kea on a rock", b"second", "https://wiki/10000001"
    )
    assert [entry.reason for entry in left_out if isinstance(entry, Rejected)] == [
        "date in the caption",
        "caption over 15 tokens",
        "wiki id in the caption",
    ]
    assert open_source(folder).size() == 5
    assert [entries(folder, skip) for skip in range(6)] == [everything[skip:] for skip in range(6)]


def test_images_without_a_question_are_reported(webqa: MakeWebQA) -> None:
    folder = webqa(IMAGES)
    questions = json.loads((folder / "WebQA_train_val.json").read_text())
    questions["d5a1"]["img_negFacts"] = questions["d5a1"]["img_negFacts"][1:]
    (folder / "WebQA_train_val.json").write_text(json.dumps(questions))
    (folder / "WebQA_test.json").write_text("{}")
    assert [(left.location, left.reason) for left in open_source(folder).left_over()] == [
        ("imgs.tsv:2", "no caption"),
        ("WebQA_test.json", "not in the questions"),
    ]


def test_an_index_with_wrong_offsets_is_reported(webqa: MakeWebQA) -> None:
    folder = webqa(IMAGES)
    lines = (folder / "imgs.lineidx").read_text().split()
    (folder / "imgs.lineidx").write_text("\n".join([lines[1], "99999999"]))
    reasons = [(entry.reason, entry.detail) for entry in entries(folder) if isinstance(entry, Rejected)]
    assert reasons[0] == ("broken index", "it points to '10000001' instead of image 30000000")
    assert reasons[1] == ("broken index", "it points to '' instead of image 10000001")
    (folder / "imgs.lineidx").write_text(f"-7\n{'9' * 30}")
    assert [entry.reason for entry in entries(folder)[:2] if isinstance(entry, Rejected)] == ["broken index"] * 2
    (folder / "imgs.lineidx").write_text("")
    assert [entry.reason for entry in entries(folder)[:2] if isinstance(entry, Rejected)] == ["no image"] * 2


def test_invalid_base64_is_reported(webqa: MakeWebQA) -> None:
    folder = webqa(IMAGES)
    (folder / "imgs.tsv").write_bytes((folder / "imgs.tsv").read_bytes().replace(b"30000000\t", b"30000000\t!"))
    first = entries(folder)[0]
    assert isinstance(first, Rejected)
    assert first.reason == "broken image"


def test_other_files_than_webqas_are_refused(webqa: MakeWebQA) -> None:
    folder = webqa(IMAGES)
    (folder / "imgs.lineidx").write_text("one")
    with pytest.raises(InvalidArgument, match=r"source: WebQA_train_val.json or imgs.lineidx is not in WebQA's format"):
        open_source(folder)
    (folder / "imgs.lineidx").unlink()
    with pytest.raises(InvalidArgument, match=r"source: .* needs WebQA_train_val.json, imgs.tsv and imgs.lineidx"):
        open_source(folder)
    (folder / "imgs.lineidx").write_text("0")
    for content in ("[]", '{"a": 1}', '{"a": {"img_posFacts": [{"caption": "x"}]}}', '{"a": {"img_negFacts": 7}}'):
        (folder / "WebQA_train_val.json").write_text(content)
        with pytest.raises(InvalidArgument, match="is not in WebQA's format"):
            open_source(folder)


def test_evaluation_reads_the_same_images(webqa: MakeWebQA) -> None:
    folder = webqa(IMAGES)
    captions = evaluation.captions(folder / "WebQA_train_val.json", "train")
    images = dict(evaluation.images(folder, [caption.image_id for caption in captions]))
    theirs = [(str(caption.image_id), caption.caption, images[caption.image_id]) for caption in captions]
    assert [(pair.id, pair.caption, pair.image) for pair in entries(folder) if isinstance(pair, SourcePair)] == theirs
