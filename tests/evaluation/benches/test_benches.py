"""The published file formats of the benchmarks, in small."""

import base64
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reimagen_common.errors import InvalidArgument
from reimagen_common.wiki_images import reason_against
from reimagen_evaluation.benches import coco, dream_bench, entity_draw_bench, items, wiki_images
from reimagen_evaluation.benches.item import Item, Reference

PROMPTS = """Classes

subject_name,class
backpack,backpack
grey_sloth_plushie,stuffed animal
dog6,dog

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a cube shaped {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a {0} {1} wearing a black top hat and a monocle'.format(unique_token, class_token),
'a {0} {1} in a chef outfit'.format(unique_token, class_token)
]
"""


def dataset(folder: Path) -> Path:
    for subject in ("backpack", "grey_sloth_plushie", "dog6"):
        (folder / subject).mkdir(parents=True)
        for name in ("01.jpg", "00.jpg"):
            (folder / subject / name).write_bytes(b"a photograph")
    (folder / "prompts_and_classes.txt").write_text(PROMPTS)
    return folder


def test_dream_bench_reads_the_published_folder(tmp_path: Path) -> None:
    found = {item.key: item for item in dream_bench.items(dataset(tmp_path))}
    assert len(found) == 2 + 2 + 3
    assert found["grey_sloth_plushie.01"].prompt == "a cube shaped stuffed animal"
    dog = found["dog6.01"]
    assert (dog.prompt, dog.group) == ("a dog wearing a black top hat and a monocle", "live subjects")
    assert [(r.path.name, r.caption) for r in dog.references] == [("00.jpg", "a dog"), ("01.jpg", "a dog")]
    named = dream_bench.items(tmp_path, token="sks")
    assert named[0].prompt == "a sks backpack in the jungle"


@pytest.mark.parametrize("lost", ["\nObject Prompts\n", "\nLive Subject Prompts\n", "subject_name,class\n"])
def test_dream_bench_names_the_section_that_is_missing(tmp_path: Path, lost: str) -> None:
    (dataset(tmp_path) / "prompts_and_classes.txt").write_text(PROMPTS.replace(lost, ""))
    with pytest.raises(InvalidArgument, match=r"prompts_and_classes\.txt has no"):
        dream_bench.items(tmp_path)


def test_our_entity_draw_bench_has_the_papers_numbers_of_entities_and_prompts() -> None:
    bench = entity_draw_bench.load()
    assert {name: (len(c.entities), len(c.templates)) for name, c in bench.categories.items()} == dict.fromkeys(
        ("dog-breeds", "landmarks", "foods", "birds", "characters"), (50, 5)
    )
    made = entity_draw_bench.items(bench)
    assert Counter(item.group for item in made) == dict.fromkeys(bench.categories, 50) | {"objects": 20}
    assert len({item.key for item in made}) == len({item.prompt for item in made}) == 270
    for item in made:
        if item.group != "objects":
            assert item.entities[0] in item.prompt
    starts = {item.entities[0]: item.prompt.split()[0] for item in made if item.group == "dog-breeds"}
    assert (starts["Azawakh"], starts["Eurasier"], starts["Barbet"]) == ("An", "A", "A")
    # Each category uses all of its templates, and another seed uses others.
    for name in bench.categories:
        assert len({item.scene for item in made if item.group == name}) == 5
    assert made != entity_draw_bench.items(bench, seed=1)
    assert made == entity_draw_bench.items(bench, seed=0)


def test_entities_are_split_by_frequency(tmp_path: Path) -> None:
    bench = entity_draw_bench.EntityDrawBench.model_validate(
        {"categories": {"birds": {"entities": ["kea", "dodo", "emu", "rhea"], "templates": ["A {} in a bath"]}}}
    )
    table = tmp_path / "counts.csv"
    table.write_text("entity,count\nemu,7\nkea,30\nrhea,7\n")
    assert [(i.prompt, i.scene) for i in entity_draw_bench.items(bench)][2:] == [
        ("An emu in a bath", "in a bath"),
        ("A rhea in a bath", "in a bath"),
    ]
    made = entity_draw_bench.items(bench, frequencies=entity_draw_bench.read_frequencies(table))
    groups = {item.entities[0]: item.group for item in made}
    assert groups == {"kea": "frequent", "emu": "frequent", "rhea": "infrequent", "dodo": "infrequent"}


def test_entities_have_the_images_of_their_folders(tmp_path: Path) -> None:
    for name, file in (("Löwchen", "b.png"), ("Löwchen", "a.JPG"), ("Löwchen", "notes.txt"), ("cane-corso", "1.webp")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_bytes(b"")
    made = {i.entities[0]: i for i in entity_draw_bench.items(entity_draw_bench.load(), references=tmp_path)}
    assert [reference.path.name for reference in made["Löwchen"].references] == ["a.JPG", "b.png"]
    assert made["Cane Corso"].references == (Reference(tmp_path / "cane-corso" / "1.webp", "Cane Corso"),)
    assert made["Akbash"].references == ()


def test_a_template_without_a_slot_for_the_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[categories.birds]\nentities = ["kea"]\ntemplates = ["A kea"]\n')
    with pytest.raises(InvalidArgument, match=r"categories\.birds\.templates.*must have \{\} once"):
        entity_draw_bench.load(tmp_path / "own.toml")


def test_coco_draws_captions_and_lists_its_images(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"COCO_val2014_{n:012d}.jpg", "height": 480, "width": 640} for n in (9, 25)]
    captions = [{"image_id": 9, "id": 100 + n, "caption": f"A dog,\n number {n}. "} for n in range(8)]
    annotations = tmp_path / "captions_val2014.json"
    annotations.write_text(json.dumps({"info": {}, "licenses": [], "images": images, "annotations": captions}))
    drawn = coco.items(annotations, count=5)
    assert len({item.key for item in drawn}) == 5
    assert all(item.prompt == f"A dog, number {int(item.key) - 100}." for item in drawn)
    assert drawn == coco.items(annotations, count=5)
    assert drawn != coco.items(annotations, count=5, seed=1)
    assert len(coco.items(annotations)) == 8
    (tmp_path / "COCO_val2014_000000000009.jpg").write_bytes(b"")
    with pytest.raises(
        InvalidArgument, match=r"1 of 2 images are missing from .*, for example COCO_val2014_000000000025\.jpg"
    ):
        coco.images(annotations, tmp_path)
    annotations.write_text('{"images": []}')
    with pytest.raises(InvalidArgument, match="is not a COCO caption file"):
        coco.items(annotations)


CAPTIONS = {
    30000000: "Quai Branly Museum façade with its vertical garden",
    30000001: "Ballerina at the opera house, March 12",
    30000002: "A church in Lisbon 1987",
    30000003: "DSC 0412 Sunset",
    30000004: "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
    30000005: "Bridge over the Rhine",
}


def webqa(folder: Path) -> Path:
    facts = [{"image_id": n, "title": "", "caption": text, "url": "", "imgUrl": ""} for n, text in CAPTIONS.items()]
    questions = {
        "d5c1": {"Q": "?", "A": ["!"], "split": "val", "img_posFacts": facts[:3], "img_negFacts": facts[2:5]},
        "d5c2": {"Q": "?", "A": ["!"], "split": "train", "img_posFacts": [], "img_negFacts": facts[5:]},
        "d5c3": {"Q": "?", "A": ["!"], "split": "val", "txt_posFacts": []},
    }
    (folder / "WebQA_train_val.json").write_text(json.dumps(questions))
    lines = [f"{n}\t{base64.b64encode(f'image {n}'.encode()).decode()}\n".encode() for n in CAPTIONS]
    (folder / "imgs.tsv").write_bytes(b"".join(lines))
    (folder / "imgs.lineidx").write_text("".join(f"{sum(map(len, lines[:n]))}\n" for n in range(len(lines))))
    return folder


def test_wiki_images_are_webqa_filtered_by_split(tmp_path: Path) -> None:
    questions = webqa(tmp_path) / "WebQA_train_val.json"
    assert [caption.image_id for caption in wiki_images.captions(questions, "val")] == [30000000]
    drawn = wiki_images.items(questions, split="train")
    assert drawn == [Item("30000005", CAPTIONS[30000005], (), CAPTIONS[30000005], "wiki-images")]


def test_wiki_images_images_are_found_at_their_lines_and_verified(tmp_path: Path) -> None:
    webqa(tmp_path)
    wanted = [30000005, 30000000]
    assert list(wiki_images.images(tmp_path, wanted)) == [(n, f"image {n}".encode()) for n in wanted]
    with pytest.raises(InvalidArgument, match="no line of image 30000017"):
        list(wiki_images.images(tmp_path, [30000017]))
    with pytest.raises(InvalidArgument, match="has image 30000001 in place of 40000001"):
        list(wiki_images.images(tmp_path, [40000001]))


def test_the_filtered_images_of_a_split_are_written_as_files(tmp_path: Path) -> None:
    wiki_images.write_images(webqa(tmp_path), tmp_path / "val")
    assert {path.name: path.read_bytes() for path in (tmp_path / "val").iterdir()} == {
        "30000000.jpg": b"image 30000000"
    }
    (tmp_path / "imgs.tsv").unlink()  # existing images are not read again
    (tmp_path / "imgs.tsv").write_bytes(b"")
    wiki_images.write_images(tmp_path, tmp_path / "val")


@pytest.mark.parametrize(
    ("caption", "kept"),
    [
        ("Apollo 11 on the launch pad", True),
        ("Boeing 747 landing", True),
        ("The Reichstag in 1933", False),
        ("Street in the 1950s", False),
        ("Prague 12.3.98", False),
        ("4th July parade", False),
        ("Portrait of Q42", False),
        ("NARA 541905", False),
        ("IMG_2034 tower", False),
        ("", False),
    ],
)
def test_captions_with_dates_or_ids_are_dropped(caption: str, kept: bool) -> None:
    assert (not reason_against(caption)) is kept


@given(st.lists(st.tuples(st.text(min_size=1), st.lists(st.text(), max_size=3), st.text()), min_size=1, max_size=5))
def test_items_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, content: list[tuple[str, list[str], str]]
) -> None:
    path = tmp_path_factory.mktemp("items") / items.ITEMS
    made = [
        Item(f"k-{number}", prompt, tuple(entities), scene, "a group", (Reference(Path("/a b.png"), prompt),))
        for number, (prompt, entities, scene) in enumerate(content)
    ]
    items.write(made, path)
    assert items.read(path) == made


def test_items_with_equal_or_bad_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="key: 'a' is the key of 2 items"):
        items.write(
            [Item("a", "x", (), "", ""), Item("b", "x", (), "", ""), Item("a", "y", (), "", "")], tmp_path / "i"
        )
    with pytest.raises(ValueError, match="key: must be letters"):
        Item("../a", "x", (), "", "")
