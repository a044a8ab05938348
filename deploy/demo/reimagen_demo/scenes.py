"""The places a thing can be put: flat illustrations drawn from a seed, sharp at any size."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import resvg_py
from PIL import Image

from reimagen_demo import elsewhere, landscapes
from reimagen_demo.shapes import UNIT

Draw = Callable[[Random], str]


@dataclass(frozen=True)
class Scene:
    """A place, how prompts call it, and how it is drawn."""

    phrase: str
    """What a prompt says after the entity: "in the snow"."""
    paraphrases: tuple[str, ...]
    caption: str
    """Of the scene alone, for its pictures in the knowledge base."""
    ground: float | None
    """How far down things stand, as a fraction of the height; None where they float."""
    draw: Draw

    @property
    def phrases(self) -> tuple[str, ...]:
        """All the ways prompts call it."""
        return (self.phrase, *self.paraphrases)

    def svg(self, rng: Random, side: int) -> str:
        """One instance of the scene as an SVG document of that side in pixels."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" '
            f'viewBox="0 0 {UNIT} {UNIT}">{self.draw(rng)}</svg>'
        )

    def render(self, rng: Random, side: int) -> Image.Image:
        """One instance of the scene as an RGB picture of that side in pixels."""
        png = resvg_py.svg_to_bytes(svg_string=self.svg(rng, side), dpi=96)
        with Image.open(io.BytesIO(bytes(png))) as picture:
            return picture.convert("RGB")


SCENES = (
    Scene(
        "in the snow",
        ("on a snowy day", "in a winter landscape"),
        "an empty snowy landscape under a pale winter sky, with snow falling on pines",
        0.84,
        landscapes.snow,
    ),
    Scene(
        "in the desert",
        ("among sand dunes", "in a sandy desert"),
        "an empty desert of sand dunes under a hot sky",
        0.84,
        landscapes.desert,
    ),
    Scene(
        "on the beach",
        ("at the seaside", "on a sandy beach"),
        "an empty sandy beach beside a calm blue sea",
        0.85,
        landscapes.beach,
    ),
    Scene(
        "in a forest",
        ("in the woods", "among tall pines"),
        "an empty clearing in a dark green forest of tall pines",
        0.84,
        landscapes.forest,
    ),
    Scene(
        "in the city at night",
        ("in a city street at night", "downtown at night"),
        "an empty street in a city at night, with lit windows",
        0.86,
        elsewhere.city_night,
    ),
    Scene(
        "under water",
        ("deep under the sea", "underwater"),
        "an empty stretch of deep blue water with bubbles and seaweed",
        None,
        elsewhere.under_water,
    ),
    Scene(
        "in space",
        ("in outer space", "in the cosmos"),
        "an empty stretch of dark outer space, full of stars",
        None,
        elsewhere.space,
    ),
    Scene(
        "on a green meadow",
        ("on a flowery lawn", "on the grass"),
        "an empty green meadow with small flowers under a blue sky",
        0.85,
        landscapes.meadow,
    ),
    Scene(
        "in the mountains",
        ("high in the mountains", "in front of snowy peaks"),
        "an empty valley in front of grey peaks",
        0.85,
        landscapes.mountains,
    ),
    Scene(
        "at sunset by the sea",
        ("at sunset", "in the evening by the sea"),
        "an empty shore by the sea at sunset, under a purple and orange sky",
        0.86,
        landscapes.sunset_sea,
    ),
    Scene(
        "in a living room",
        ("at home in the living room", "on a rug indoors"),
        "an empty living room with curtains and a round rug",
        0.87,
        elsewhere.living_room,
    ),
    Scene(
        "on a stage",
        ("on a theater stage", "in the spotlight"),
        "an empty theater stage between red curtains, lit by spotlights",
        0.85,
        elsewhere.stage,
    ),
    Scene(
        "in the rain",
        ("on a rainy day", "in pouring rain"),
        "an empty wet road under grey clouds in pouring rain",
        0.85,
        landscapes.rain,
    ),
    Scene(
        "in autumn",
        ("among autumn leaves", "in an autumn park"),
        "an empty park in autumn with orange trees and fallen leaves",
        0.85,
        landscapes.autumn,
    ),
    Scene(
        "in a pastel dreamland",
        ("in a whimsical dreamland", "in a fairy-tale land"),
        "an empty pastel dreamland with soft hills under a pink sky",
        0.85,
        elsewhere.dreamland,
    ),
    Scene(
        "in the jungle",
        ("in a tropical jungle", "in the rainforest"),
        "an empty path through a lush tropical jungle with vines",
        0.86,
        landscapes.jungle,
    ),
)
