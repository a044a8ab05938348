from reimagen_demo.art.entities import Entity, of_split
from reimagen_demo.report.ablation_sheet import prompts
from reimagen_demo.scenes.registry import SCENES


def test_the_prompts_combine_held_out_entities_with_scenes() -> None:
    held_out = {entity.phrase: entity for entity in of_split("held-out")}
    scenes = {scene.phrase for scene in SCENES}
    shown = [
        held_out[phrase] for prompt in prompts() for phrase in held_out if prompt.removeprefix(f"{phrase} ") in scenes
    ]
    assert [entity.family for entity in shown] == [
        family for family in ("animal-marine", "musical-instrument", "science") for _ in range(2)
    ]
    assert len(set(prompts())) == 6


def test_the_prompts_depend_only_on_the_list() -> None:
    known = [
        Entity("1", "a known thing", "half", "train"),
        Entity("2", "a new thing", "half", "held-out"),
        *(Entity(str(number), f"thing {number}", "whole", "held-out") for number in (3, 4, 5)),
    ]
    assert prompts(known) == [f"thing 3 {SCENES[0].phrase}", f"thing 5 {SCENES[1].phrase}"]
