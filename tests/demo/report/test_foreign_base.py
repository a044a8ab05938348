"""The captions, drawings and prompts of the base that nobody here made."""

from pathlib import Path

import pytest

from reimagen_demo.report.foreign_base import PROMPTS, caption_of, prompts, rendered
from reimagen_demo.scenes.registry import SCENES
from reimagen_demo.stack.knowledge_base import PairNote

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40">{}</svg>'


@pytest.mark.parametrize(
    ("title", "caption"),
    [
        ("A simple pig", "a simple pig"),
        ("Angry Monkey 01", "an angry monkey"),
        ("grapes", "grapes"),
        ("the cactus", "a cactus"),
        ("glass_of&#32;milk", "a glass of milk"),
        ("a picture of some other things", ""),
        ("x-ray @ home", ""),
        ("", ""),
    ],
)
def test_a_caption_is_a_title_of_few_words(title: str, caption: str) -> None:
    assert caption_of(f"<metadata><dc:title>{title}</dc:title></metadata>") == caption


def test_a_drawing_without_title_has_no_caption() -> None:
    assert caption_of(SVG.format("")) == ""


@pytest.mark.parametrize(
    ("content", "size"),
    [
        ('<circle cx="30" cy="20" r="10" fill="red"/>', (192, 192)),
        ('<ellipse cx="40" cy="20" rx="40" ry="20" fill="red"/>', (192, 96)),
        ('<rect width="80" height="40" fill="red"/>', None),
        ('<path d="M0 0L80 40" stroke="red" stroke-width="0.2"/>', None),
        ("", None),
    ],
    ids=["circle", "ellipse", "background", "line", "nothing"],
)
def test_drawings_of_things_are_trimmed_and_others_left_out(
    tmp_path: Path, content: str, size: tuple[int, int] | None
) -> None:
    path = tmp_path / "drawing.svg"
    path.write_text(SVG.format(content))
    drawing = rendered(path)
    assert (drawing and drawing.size) == size


def test_a_broken_drawing_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "drawing.svg"
    path.write_text("<svg")
    assert rendered(path) is None


def test_the_prompts_are_a_fixed_sample_with_all_photographs() -> None:
    def note(number: int, kind: str) -> PairNote:
        return PairNote(f"{kind}/{number:03d}", f"a {kind} {number}", "", "", "", kind)

    clips, photos = [note(number, "clip") for number in range(100)], [note(number, "photo") for number in range(3)]
    stated = prompts(clips, photos)
    assert len(stated) == PROMPTS
    assert [facts for facts, _ in stated[-3:]] == photos
    assert len({facts.id for facts, _ in stated}) == PROMPTS
    scenes = {scene.phrase for scene in SCENES}
    assert all(prompt.removeprefix(f"{facts.caption} ") in scenes for facts, prompt in stated)
    assert prompts(clips[::-1], photos) == stated
