"""The layout of a composition: the position, size, mirroring and turn of each of its things."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from reimagen_demo.data.compositions import Composition, Place, Size, Thing, Turn
from reimagen_demo.data.placing import Drawing, Extent, Placement

SIZES: dict[Size | None, tuple[float, float]] = {
    "tiny": (0.16, 0.25),
    "small": (0.27, 0.37),
    None: (0.38, 0.75),
    "large": (0.64, 0.8),
    "huge": (0.85, 0.97),
}
"""Range of the longest edge of a thing that is alone, as a share of the side; None if no size is stated."""
SIZES_IN_PLACE: dict[Size | None, tuple[float, float]] = {None: (0.3, 0.48)}
"""The same range if the thing's place is stated."""
SIZES_OF_SEVERAL: dict[Size | None, tuple[float, float]] = {
    "tiny": (0.13, 0.2),
    "small": (0.21, 0.29),
    None: (0.33, 0.5),
    "large": (0.5, 0.6),
    "huge": (0.6, 0.72),
}
"""The same range for each of two things."""
_OF_THREE = 0.8
"""Factor on the sizes of three things."""
PLACES: dict[Place, tuple[float, float | None]] = {
    "left": (0.25, None),
    "right": (0.75, None),
    "top": (0.5, 0.25),
    "bottom": (0.5, 0.76),
    "center": (0.5, 0.5),
    "top left": (0.24, 0.25),
    "top right": (0.76, 0.25),
    "bottom left": (0.24, 0.76),
    "bottom right": (0.76, 0.76),
}
"""Center of a thing whose place is stated; None for y if it stands on the ground."""
IN_PLACE = 0.03
"""Greatest deviation from that center, in each direction."""
SIDEWAYS = 0.15
"""Greatest horizontal distance from the middle of a thing whose place is not stated."""
FLOATING = 0.1
"""Share of things that float although the scene has a ground."""
TILT = (20, 40)
"""Range in degrees of a stated tilt."""
UNSTATED_MIRRORED, SECOND_MIRRORED = 0.08, 0.3
"""Probability that a thing is mirrored without a statement; the same for its second and third copy."""
MARGIN = 0.012
"""Free margin at the image's edges."""


@dataclass(frozen=True)
class Placed:
    """One drawing in an image."""

    thing: int
    """Index of the composition's thing that it shows."""
    placement: Placement
    standing: bool
    """Whether it stands on the ground and casts a shadow there."""


@dataclass
class _Item:
    """One drawing whose position is not decided yet."""

    thing: int
    place: Place | None
    size: float
    mirrored: bool
    angle: float
    unit: Extent
    """Extent for a size of 1."""
    floats: bool

    @property
    def extent(self) -> Extent:
        return self.unit.scaled(self.size)

    def fit(self, width: float, height: float) -> None:
        """Shrink the drawing to a width and a height."""
        self.size *= min(1.0, width / self.extent.width, height / self.extent.height)

    def at(self, x: float, y: float, *, standing: bool) -> Placed:
        """Return it placed with its center there, or at the nearest point at which it is wholly in the image."""
        extent = self.extent
        x = min(max(x, extent.left + MARGIN), 1 - extent.right - MARGIN)
        y = min(max(y, extent.up + MARGIN), 1 - extent.down - MARGIN)
        return Placed(self.thing, Placement(x, y, self.size, self.mirrored, self.angle), standing)


def lay_out(rng: Random, composition: Composition, drawings: Sequence[Drawing]) -> list[Placed]:
    """Lay out a composition.

    Args:
        rng: decides what the composition leaves open.
        composition: what the image shows.
        drawings: the drawing of each thing.

    Returns:
        All drawings of the image, from back to front. `mirrored` is relative to the drawings given.
    """
    items = [
        item
        for number, (thing, drawing) in enumerate(zip(composition.things, drawings, strict=True))
        for item in _items(rng, composition, number, thing, drawing)
    ]
    ground = composition.scene.ground
    if composition.relation in ("above", "below"):
        return _stacked(rng, items if composition.relation == "above" else items[::-1], ground)
    if composition.relation in ("behind", "in front of"):
        return _overlapping(rng, items if composition.relation == "behind" else items[::-1], ground)
    if composition.relation == "right of":
        items.reverse()
    if len(items) == 1:
        return [_alone(rng, items[0], ground)]
    if len(composition.things) > 1 and composition.things[0].place:
        return [_alone(rng, item, ground) for item in items]
    left, right = {"left": (0.0, 0.5), "right": (0.5, 1.0)}.get(composition.things[0].place or "", (0.0, 1.0))
    return _in_a_row(rng, items, ground, left, right)


def _items(rng: Random, composition: Composition, number: int, thing: Thing, drawing: Drawing) -> list[_Item]:
    drawn = sum(each.count for each in composition.things)
    sizes = SIZES if drawn == 1 else SIZES_OF_SEVERAL
    if drawn == 1 and thing.place:
        sizes = SIZES | SIZES_IN_PLACE
    lowest, highest = sizes[thing.size]
    size = rng.uniform(lowest, highest) * (_OF_THREE if drawn > 2 else 1)
    angle = _angle(rng, thing.turned)
    items = []
    for copy in range(thing.count):
        mirrored = thing.mirrored or rng.random() < (SECOND_MIRRORED if copy else UNSTATED_MIRRORED)
        items.append(
            _Item(
                thing=number,
                place=thing.place,
                size=size * (rng.uniform(0.9, 1.1) if copy else 1),
                mirrored=mirrored,
                angle=angle,
                unit=drawing.extent(mirrored=mirrored, angle=angle),
                floats=rng.random() < FLOATING,
            )
        )
    return items


def _angle(rng: Random, turned: Turn | None) -> float:
    if turned is None:
        return 0.0
    if turned == "upside down":
        return math.pi
    tilt = math.radians(rng.uniform(*TILT))
    return tilt if turned == "left" else -tilt


def _alone(rng: Random, item: _Item, ground: float | None) -> Placed:
    """Place one thing, at its stated place if there is one."""
    x, y = PLACES[item.place] if item.place else (0.5, None)
    spread = IN_PLACE if item.place else SIDEWAYS
    item.fit(0.52 if item.place else 1 - 2 * MARGIN, 0.52 if y is not None else 1 - 2 * MARGIN)
    x += rng.uniform(-spread, spread)
    if y is not None:
        return item.at(x, y + rng.uniform(-IN_PLACE, IN_PLACE), standing=False)
    return _upright(rng, item, x, ground)


def _upright(rng: Random, item: _Item, x: float, ground: float | None) -> Placed:
    """Place a thing whose height is not stated: on the ground, or floating if the scene has none."""
    if ground is None:
        return item.at(x, 0.5 + rng.uniform(-0.12, 0.12), standing=False)
    if item.floats and item.place is None:
        return item.at(x, rng.uniform(0.3, 0.55), standing=False)
    bottom = ground + rng.uniform(-0.03, 0.07)
    return item.at(x, bottom - item.extent.down, standing=True)


def _in_a_row(rng: Random, items: Sequence[_Item], ground: float | None, left: float, right: float) -> list[Placed]:
    """Place things side by side between two columns, in their order from left to right."""
    room = right - left - 2 * MARGIN
    taken = sum(item.extent.width for item in items)
    shrunk = min(1.0, 0.96 * room / taken)
    for item in items:
        item.size *= shrunk
        item.fit(room, 0.9)
    free = room - sum(item.extent.width for item in items)
    shares = [rng.uniform(0.2, 1) for _ in range(len(items) + 1)]
    placed, edge = [], left + MARGIN
    for item, share in zip(items, shares, strict=False):
        edge += free * share / sum(shares)
        placed.append(_upright(rng, item, edge + item.extent.left, ground))
        edge += item.extent.width
    return placed


def _stacked(rng: Random, items: Sequence[_Item], ground: float | None) -> list[Placed]:
    """Place the first thing above the second one."""
    upper, lower = items
    bottom = 0.95 if ground is None else min(0.97, ground + rng.uniform(-0.02, 0.08))
    room = bottom - 2 * MARGIN
    shrunk = min(1.0, 0.95 * room / (upper.extent.height + lower.extent.height))
    upper.size *= shrunk
    lower.size *= shrunk
    x = 0.5 + rng.uniform(-0.1, 0.1)
    if ground is None:
        bottom -= rng.uniform(0, max(0.0, room - upper.extent.height - lower.extent.height)) / 2
    below = lower.at(x, bottom - lower.extent.down, standing=ground is not None)
    top = below.placement.y - lower.extent.up
    gap = rng.uniform(0, max(0.0, top - upper.extent.height - MARGIN) / 2)
    above = upper.at(x + rng.uniform(-0.06, 0.06), top - gap - upper.extent.down, standing=False)
    return [below, above]


def _overlapping(rng: Random, items: Sequence[_Item], ground: float | None) -> list[Placed]:
    """Place the first thing behind the second one, which hides a part of it."""
    back, front = items
    back.fit(0.6, 0.75)
    front.fit(0.5, 0.6)
    side = rng.choice((-1, 1))
    apart = rng.uniform(0.3, 0.42) * (back.extent.width + front.extent.width)
    x = 0.5 - side * apart / 2 + rng.uniform(-0.05, 0.05)
    base = 0.72 if ground is None else ground + 0.02
    behind = back.at(x, base - rng.uniform(0.05, 0.1) - back.extent.down, standing=ground is not None)
    before = front.at(
        behind.placement.x + side * apart,
        base + rng.uniform(0.03, 0.07) - front.extent.down,
        standing=ground is not None,
    )
    return [behind, before]
