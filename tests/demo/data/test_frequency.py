from collections import Counter
from random import Random

from reimagen_demo.art.entities import entities, of_split
from reimagen_demo.data.frequency import draw_entity, group, ranked


def test_few_entities_are_frequent_and_each_is_shown() -> None:
    rng = Random(0)
    shown = Counter(draw_entity(rng, "train") for _ in range(40_000))
    counts = [shown[entity] for entity in ranked()]
    assert set(shown) == set(of_split("train"))
    assert sum(counts[:10]) > 0.15 * 40_000
    assert 5 <= sum(counts[-50:]) / 50 <= 12
    frequent = sum(count for entity, count in shown.items() if group(entity) == "frequent")
    assert 0.85 < frequent / 40_000 < 0.92


def test_the_groups_are_two_halves_and_held_out() -> None:
    groups = Counter(group(entity) for entity in entities())
    assert groups["held-out"] == len(of_split("held-out"))
    assert groups["frequent"] == groups["infrequent"] == len(of_split("train")) / 2


def test_held_out_entities_are_drawn_equally_often() -> None:
    rng = Random(0)
    held_out = Counter(draw_entity(rng, "held-out") for _ in range(7800))
    assert set(held_out) == set(of_split("held-out"))
    assert max(held_out.values()) < 2 * min(held_out.values())
    assert len({draw_entity(rng, "all") for _ in range(10_000)}) == len(entities())


def test_the_order_equals_that_of_the_shipped_weights_training() -> None:
    assert [entity.name for entity in ranked()[:3]] == ["scorpion", "mousetrap", "waffle"]
