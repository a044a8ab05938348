"""The scenes: flat illustrations that are drawn from a seed, sharp at any size."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from PIL import Image

from reimagen_demo.scenes import landscapes, other_scenes, outdoors, rooms
from reimagen_demo.scenes.shapes import UNIT
from reimagen_demo.scenes.wordings import UNSEEN, WORDINGS

Draw = Callable[[Random], str]
Time = Literal["night", "dawn", "sunset"]
Weather = Literal["fog", "snow", "rain"]

ANY_TIME: tuple[Time, ...] = ("night", "dawn", "sunset")
ANY_WEATHER: tuple[Weather, ...] = ("fog", "snow", "rain")


@dataclass(frozen=True)
class Scene:
    """A scene: its wordings in prompts, its caption, and how it is drawn."""

    phrase: str
    """Main wording in a prompt, after the entity: "in the snow"."""
    caption: str
    """Caption of the scene's images in the knowledge base. It shares at most one word with a prompt's phrase; with
    more, BM25 would rank it above the entity that the prompt names."""
    ground: float | None
    """Height at which things stand, as a fraction from the top; None if they float."""
    draw: Draw
    times: tuple[Time, ...] = ()
    """Times of day that a prompt may state with it; empty for indoor scenes and scenes with a fixed time."""
    weathers: tuple[Weather, ...] = ()
    """Weathers that a prompt may state with it; empty for indoor scenes and scenes with a fixed weather."""

    @property
    def paraphrases(self) -> tuple[str, ...]:
        """The other wordings in prompts of training."""
        return WORDINGS[self.phrase]

    @property
    def phrases(self) -> tuple[str, ...]:
        """All wordings in prompts of training."""
        return (self.phrase, *self.paraphrases)

    @property
    def unseen(self) -> tuple[str, ...]:
        """The wordings that training never uses."""
        return UNSEEN[self.phrase]

    def svg(self, rng: Random, side: int) -> str:
        """Return an instance of the scene as an SVG document of that side in pixels."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" '
            f'viewBox="0 0 {UNIT} {UNIT}">{self.draw(rng)}</svg>'
        )

    def render(self, rng: Random, side: int) -> Image.Image:
        """Return an instance of the scene as an RGB image of that side in pixels."""
        # Imported here, because drawing from a pack of images does not need it.
        import resvg_py

        png = resvg_py.svg_to_bytes(svg_string=self.svg(rng, side), dpi=96)
        with Image.open(io.BytesIO(bytes(png))) as image:
            return image.convert("RGB")


SCENES = (
    Scene(
        "in the snow",
        "a field of snow under a pale sky, with flakes falling",
        0.84,
        landscapes.snow,
        times=ANY_TIME,
        weathers=("fog",),
    ),
    Scene(
        "in the desert",
        "a desert of rolling hills under a hot sky",
        0.84,
        landscapes.desert,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "on the beach",
        "a beach beside a calm blue ocean",
        0.85,
        landscapes.beach,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "in a forest",
        "a clearing in a dark green forest",
        0.84,
        landscapes.forest,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "in the city at night",
        "an avenue between skyscrapers after dark, in a big city",
        0.86,
        other_scenes.city_night,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "under water",
        "an ocean floor with swaying seaweed in blue water",
        None,
        other_scenes.under_water,
    ),
    Scene(
        "in space",
        "a stretch of dark space with distant planets",
        None,
        other_scenes.space,
    ),
    Scene(
        "on a green meadow",
        "a meadow under a clear blue sky",
        0.85,
        landscapes.meadow,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "in the mountains",
        "a valley below grey mountains",
        0.85,
        landscapes.mountains,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "at sunset by the sea",
        "a shore at sunset under a purple sky",
        0.86,
        landscapes.sunset_sea,
    ),
    Scene(
        "in a living room",
        "a room with curtains and a carpet",
        0.87,
        other_scenes.living_room,
    ),
    Scene(
        "on a stage",
        "a stage between red curtains",
        0.85,
        other_scenes.stage,
    ),
    Scene(
        "in the rain",
        "a lane under grey clouds in the rain",
        0.85,
        landscapes.rain,
    ),
    Scene(
        "in autumn",
        "an avenue of orange trees in autumn",
        0.85,
        landscapes.autumn,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "in a pastel dreamland",
        "a dreamland of soft pink hills",
        0.85,
        other_scenes.dreamland,
    ),
    Scene(
        "in the jungle",
        "a path through lush green jungle with vines",
        0.86,
        landscapes.jungle,
        times=ANY_TIME,
        weathers=("fog", "rain"),
    ),
    Scene(
        "in a kitchen",
        "a tiled room with cupboards and a cooker",
        0.87,
        rooms.kitchen,
    ),
    Scene(
        "on a street",
        "a row of gables along an avenue in daylight",
        0.86,
        outdoors.street,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "in a museum",
        "a gallery with framed pictures behind a rope",
        0.87,
        rooms.museum,
    ),
    Scene(
        "on the moon",
        "a grey landscape of craters under a black sky",
        0.85,
        outdoors.moon,
    ),
    Scene(
        "in a photo studio",
        "a paper backdrop between two lamps",
        0.86,
        rooms.studio,
    ),
    Scene(
        "on a plain white background",
        "an empty sheet of bright paper",
        0.84,
        rooms.white,
    ),
    Scene(
        "in a library",
        "tall cases full of old volumes over a carpet",
        0.87,
        rooms.library,
    ),
    Scene(
        "in a garden",
        "blossoms along a picket fence",
        0.86,
        outdoors.garden,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "in a harbor",
        "a quay with sails and masts",
        0.87,
        outdoors.harbor,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
    Scene(
        "in a cave",
        "a hollow of brown limestone with hanging drips",
        0.86,
        outdoors.cave,
    ),
    Scene(
        "in a classroom",
        "rows of desks facing a chalk wall",
        0.87,
        rooms.classroom,
    ),
    Scene(
        "on a farm",
        "a wooden shed beside a silo and fields",
        0.86,
        outdoors.farm,
        times=ANY_TIME,
        weathers=ANY_WEATHER,
    ),
)


def by_phrase() -> dict[str, Scene]:
    """Return all scenes, by main wording."""
    return {scene.phrase: scene for scene in SCENES}
