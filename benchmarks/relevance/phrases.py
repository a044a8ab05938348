"""The wordings of the evaluation set's prompts, by kind."""

import re
from collections.abc import Sequence
from random import Random

KINDS = ("scene", "before", "after", "part", "plural", "old", "two", "medium", "scene first", "bare")
"""`part` names only the last word of a name, `medium` asks for a photo or painting of it, `bare` has no article."""
SCENES = (
    "in the snow", "on a roof", "on a hill", "at sunset", "in a forest", "on the beach", "at night", "by a river",
    "in the rain", "under a tree", "in front of a castle", "on a wooden table", "in a city street", "in the desert",
    "near a lake", "in the fog", "inside a kitchen", "above the clouds", "next to a window", "in a garden",
    "behind a fence", "on Mars", "in outer space", "on a sunny day", "against a blue sky", "in the middle of a field",
    "under water", "between two mountains", "at the bottom of the sea", "in an empty room", "on a train",
    "along a dusty road", "during a storm", "in a museum",
)  # fmt: skip
BEFORE = (
    "red", "tiny", "huge", "shiny", "blue", "broken", "cute", "golden", "fluffy", "dirty", "beautiful", "dark green",
    "striped", "wooden", "very old", "brightly colored", "sleepy", "rusty", "transparent", "white",
)  # fmt: skip
AFTER = (
    "with a red ribbon", "covered in snow", "made of glass", "lying on the grass", "standing on a rock",
    "painted by a child", "that looks sad", "wearing a hat", "floating in the air", "surrounded by flowers",
    "with two eyes", "full of light", "seen from above", "from the nineteenth century", "for children",
    "without any color", "burning in the dark", "is lying on the floor", "stands on a shelf",
)  # fmt: skip
MEDIA = (
    "a photo of", "a watercolor painting of", "an oil painting of", "a pencil drawing of", "a close-up photo of",
    "an illustration of", "a black and white photograph of", "a picture of", "a 3d render of", "a sketch of",
)  # fmt: skip
COUNTS = ("two", "three", "several", "many", "a group of", "a pair of")


def phrase(kind: str, entities: Sequence[str], rng: Random) -> str:
    """Return a prompt of a kind for its entities; `two` takes two entities, the other kinds one."""
    entity, scene = with_article(entities[0]), rng.choice(SCENES)
    match kind:
        case "before":
            qualifiers = ", ".join(rng.sample(BEFORE, rng.choice((1, 1, 2))))
            return f"{with_article(f'{qualifiers} {entities[0]}')} {scene}"
        case "after":
            return f"{entity} {rng.choice(AFTER)}"
        case "plural":
            return f"{rng.choice(COUNTS)} {plural(entities[0])} {scene}"
        case "old":
            return f"an old {entities[0]} {scene}"
        case "two":
            return f"{entity} and {with_article(entities[1])} {scene}"
        case "medium":
            return f"{rng.choice(MEDIA)} {entity} {scene}"
        case "scene first":
            return f"{scene}, {entity}"
        case "bare":
            return rng.choice((entities[0], f"{entities[0]} {scene}", f"{entities[0]}, {rng.choice(BEFORE)}, 4k"))
    return f"{entity} {scene}"


def with_article(text: str) -> str:
    """Return the text with the article a or an."""
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


def plural(name: str) -> str:
    """Return the plural of a name by the regular rules of English."""
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    if re.search(r"(s|x|z|ch|sh)$", name):
        return f"{name}es"
    return f"{name}s"
