"""The wordings of prompts for compositions."""

from collections.abc import Sequence
from random import Random

from reimagen_demo.art.colors import Color
from reimagen_demo.data.compositions import Composition, Place, Relation, Size, Thing, Turn
from reimagen_demo.data.plurals import plural
from reimagen_demo.scenes.registry import Scene, Time, Weather

SIZES: dict[Size, tuple[str, ...]] = {
    "tiny": ("tiny", "miniature", "very small", "teeny"),
    "small": ("small", "little", "rather small"),
    "large": ("large", "big", "rather large"),
    "huge": ("huge", "gigantic", "enormous", "giant"),
}
PLACES: dict[Place, tuple[str, ...]] = {
    "left": ("on the left", "on the left side", "at the left", "on the left-hand side"),
    "right": ("on the right", "on the right side", "at the right", "on the right-hand side"),
    "top": ("at the top", "near the top", "high up", "in the upper part"),
    "bottom": ("at the bottom", "near the bottom", "low down", "in the lower part"),
    "center": ("in the center", "in the middle", "at the center"),
    "top left": ("in the top left corner", "at the top left", "in the upper left corner", "at the upper left"),
    "top right": ("in the top right corner", "at the top right", "in the upper right corner", "at the upper right"),
    "bottom left": (
        "in the bottom left corner",
        "at the bottom left",
        "in the lower left corner",
        "at the lower left",
    ),
    "bottom right": (
        "in the bottom right corner",
        "at the bottom right",
        "in the lower right corner",
        "at the lower right",
    ),
}
MIRRORED = ("mirrored", "facing the other way", "flipped horizontally", "looking the other way")
TURNS: dict[Turn, tuple[str, ...]] = {
    "upside down": ("upside down", "turned upside down", "flipped upside down", "on its head"),
    "left": ("tilted to the left", "leaning left", "leaning to the left", "tilted left"),
    "right": ("tilted to the right", "leaning right", "leaning to the right", "tilted right"),
}
RELATIONS: dict[Relation, tuple[str, ...]] = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over", "floating above"),
    "below": ("below", "under", "beneath", "underneath"),
    "behind": ("behind", "partly hidden behind"),
    "in front of": ("in front of", "partly hiding"),
}
COLORS: dict[Color, tuple[str, ...]] = {
    "red": ("red", "bright red", "crimson"),
    "orange": ("orange", "bright orange"),
    "yellow": ("yellow", "bright yellow", "lemon-yellow"),
    "green": ("green", "bright green", "emerald green"),
    "turquoise": ("turquoise", "teal"),
    "blue": ("blue", "bright blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "bright pink", "rosy pink"),
    "brown": ("brown", "chestnut-brown"),
    "white": ("white", "all white", "pure white"),
    "black": ("black", "jet-black", "all black"),
    "gray": ("gray", "grey"),
}
COUNTS = {2: ("two", "two", "a pair of"), 3: ("three", "three", "a group of three")}
JOINTS = ("and", "and", "and", "next to", "beside", "with")
"""Words between two things that are side by side in the order of mention."""
TIMES: dict[Time, tuple[str, ...]] = {
    "night": ("at night", "by night"),
    "dawn": ("at dawn", "at sunrise"),
    "sunset": ("at sunset", "at dusk"),
}
WEATHERS: dict[Weather, tuple[str, ...]] = {
    "fog": ("in fog", "in thick fog"),
    "snow": ("in falling snow", "in a snowfall"),
    "rain": ("in the rain", "in heavy rain"),
}

MAIN_WORDING = 0.2
"""Share of prompts that name the scene by its main wording."""
SUBJECT_FIRST = 0.88
"""Share of prompts that name the things before the scene, if more than one thing and a scene is stated."""
_ADJECTIVE = {"upside down": "upside-down"}
"""Turns that may precede the name."""


def prompt_of(rng: Random, composition: Composition, *, unseen: bool = False) -> str:
    """Return a prompt for the composition, in one of many wordings.

    Args:
        rng: decides the wording.
        composition: what the prompt describes.
        unseen: whether to name the scene in a wording that training never uses.
    """
    where = _scene_words(rng, composition, unseen=unseen)
    text = _subject(rng, composition)
    if composition.is_plain:
        return f"{text} {where}"
    stated_geometry = composition.relation or any(
        thing.place or thing.turned or thing.mirrored for thing in composition.things
    )
    if rng.random() > SUBJECT_FIRST:
        text = f"{where}, {text}"
    elif stated_geometry and rng.random() < 0.65:
        text = f"{text}, {where}"
    else:
        text = f"{text} {where}"
    if composition.time:
        text = _with_setting(rng, text, TIMES[composition.time])
    if composition.weather:
        text = _with_setting(rng, text, WEATHERS[composition.weather])
    return text


def _scene_words(rng: Random, composition: Composition, *, unseen: bool) -> str:
    scene: Scene = composition.scene
    # "On a snowy day at night" would contradict itself.
    fitting = [
        phrase
        for phrase in (scene.unseen if unseen else scene.paraphrases)
        if not (composition.time and phrase.endswith("day"))
    ]
    return scene.phrase if not unseen and rng.random() < MAIN_WORDING else rng.choice(fitting)


def _subject(rng: Random, composition: Composition) -> str:
    phrases = [_thing(rng, thing) for thing in composition.things]
    if composition.relation:
        return f"{phrases[0]} {rng.choice(RELATIONS[composition.relation])} {phrases[1]}"
    if len(phrases) == 3:
        return rng.choice(("{}, {} and {}", "{}, {}, and {}", "{} and {} and {}")).format(*phrases)
    if len(phrases) == 2:
        joint = "and" if composition.things[0].place else rng.choice(JOINTS)
        return f"{phrases[0]} {joint} {phrases[1]}"
    return phrases[0]


def _thing(rng: Random, thing: Thing) -> str:
    """Return a thing with its stated attributes: "two tiny foxes upside down on the left"."""
    before, after = [], []
    if thing.size:
        before.append(rng.choice(SIZES[thing.size]))
    if thing.color:
        before.append(rng.choice(COLORS[thing.color]))
    if thing.turned in _ADJECTIVE and rng.random() < 0.25:
        before.append(_ADJECTIVE[thing.turned])
    elif thing.turned:
        after.append(rng.choice(TURNS[thing.turned]))
    if thing.mirrored and rng.random() < 0.15:
        before.append("mirrored")
    elif thing.mirrored:
        after.append(rng.choice(MIRRORED))
    if thing.place:
        after.append(rng.choice(PLACES[thing.place]))
    rng.shuffle(after)
    entity = thing.entity
    if thing.count > 1:
        words = " ".join((rng.choice(COUNTS[thing.count]), *before, plural(entity) or entity.name, *after))
        return words.replace("on its head", "on their heads")
    name = " ".join((*before, entity.name))
    if entity.name != entity.phrase:
        name = f"{_article(name)} {name}" if before else entity.phrase
    return " ".join((name, *after))


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _with_setting(rng: Random, text: str, phrases: Sequence[str]) -> str:
    phrase = rng.choice(phrases)
    return f"{text} {phrase}" if rng.random() < 0.7 else f"{phrase}, {text}"
