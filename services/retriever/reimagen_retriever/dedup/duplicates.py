"""Finding near-duplicates among very many images, as they come, one by one.

Comparing each with all before it takes a million million comparisons for a million images. Instead, fingerprints
are kept in a grid over four of their directions: brightness, its slope down and across, and red against blue. The
distance along a direction is never more than the whole distance, so near-duplicates lie in the same cell or in
neighboring ones, and only those are compared, by the exact rule. So nothing is missed, nothing depends on the order of
training or of batches, and a build that was interrupted finds the same as one that was not.

How near is near depends on an image's spread (see `fingerprint`), and near images have nearly the same one: each
class of spreads has a grid of its own, as fine as its images are faint.
"""

import itertools
import math
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from reimagen_retriever.knowledge_base.fingerprint import (
    FARTHEST,
    FARTHEST_OF_SPREAD,
    GRID,
    ROUNDING,
    near_duplicates,
    spread,
)

_LENGTH = GRID * GRID * 3
_RATIO = 1.26
"""Of the spreads of neighboring classes: a bit more than those of near-duplicates can be, 1 + FARTHEST_OF_SPREAD."""
_LEAST_SPREAD = ROUNDING / FARTHEST_OF_SPREAD
"""Below this all spreads are one class."""
_CELLS = 1_024
"""Of a direction, both ways from gray: more than the finest grid has."""


def _directions() -> NDArray[np.float64]:
    """Cosines of low frequency, (16, 192), orthonormal: the first four are the grid's."""
    waves = [np.cos(np.pi * order * (np.arange(GRID) + 0.5) / GRID) for order in range(4)]
    light, red_to_blue, green = np.ones(3), np.array([1.0, 0.0, -1.0]), np.array([1.0, -2.0, 1.0])
    shapes = [(down, across, light) for level in range(4) for down in range(level + 1) for across in [level - down]]
    shapes += [
        (0, 0, red_to_blue),
        (1, 0, red_to_blue),
        (0, 1, red_to_blue),
        (0, 0, green),
        (1, 0, green),
        (0, 1, green),
    ]
    rows = np.stack([np.einsum("i,j,k->ijk", waves[i], waves[j], color).reshape(-1) for i, j, color in shapes])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


_DIRECTIONS = _directions()
_STEPS = [_CELLS**power for power in range(4)]
_NEIGHBORS = [
    sum(move * step for move, step in zip(moves, _STEPS, strict=True))
    for moves in itertools.product((-1, 0, 1), repeat=4)
]


class DuplicateFinder:
    """Tells of each image which earlier one it shows again.

    What is a near-duplicate itself stands for nothing: a chain of small changes does not make one of very different
    images. Takes about 0.6 kB of memory for each image that is not.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._fingerprints = np.empty((1_024, _LENGTH), np.uint8)
        self._positions = np.empty((1_024, len(_DIRECTIONS)), np.float32)
        self._cells: dict[int, list[int]] = defaultdict(list)

    def find(self, identifier: str, fingerprint: bytes) -> str:
        """The id of the first image that this one nearly shows; where there is none, '', and it is remembered."""
        row, position, its_spread = _read(fingerprint)
        near = self._near(row, position, its_spread)
        if near is not None:
            return self._ids[near]
        self.remember(identifier, fingerprint)
        return ""

    def remember(self, identifier: str, fingerprint: bytes) -> None:
        """Adds an image that is known to be no near-duplicate of those before it."""
        row, position, its_spread = _read(fingerprint)
        if len(self._ids) == len(self._fingerprints):
            self._fingerprints = np.concatenate([self._fingerprints, np.empty_like(self._fingerprints)])
            self._positions = np.concatenate([self._positions, np.empty_like(self._positions)])
        self._fingerprints[len(self._ids)] = row
        self._positions[len(self._ids)] = position
        self._cells[_cell(_kind(its_spread), position[:4].tolist())].append(len(self._ids))
        self._ids.append(identifier)

    def _near(self, row: NDArray[np.uint8], position: NDArray[np.float64], its_spread: float) -> int | None:
        """The first near-duplicate: of what lies around, what lies near along all directions, by the exact rule."""
        candidates = [number for cell in _around(position, its_spread) for number in self._cells.get(cell, ())]
        if not candidates:
            return None
        among = np.array(candidates)
        along = self._positions[among] - position.astype(np.float32)
        among = among[np.einsum("nd,nd->n", along, along) <= _width(its_spread) ** 2]
        if not len(among):
            return None
        near = among[near_duplicates(row[None], self._fingerprints[among])[0]]
        return int(near.min()) if len(near) else None


def cells_of(fingerprints: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers of the cells that fingerprints, (n, 192), lie in."""
    centered = fingerprints.astype(np.float64) - 127.5
    positions = centered @ _DIRECTIONS[:4].T
    pairs = zip(spread(centered).tolist(), positions.tolist(), strict=True)
    return np.array([_cell(_kind(its_spread), position) for its_spread, position in pairs], np.int64)


def cells_around(fingerprint: bytes) -> list[int]:
    """The numbers of the cells where all near-duplicates of an image lie."""
    _, position, its_spread = _read(fingerprint)
    return _around(position, its_spread)


def _around(position: NDArray[np.float64], its_spread: float) -> list[int]:
    kind = _kind(its_spread)
    cells = (_cell(near_kind, position[:4].tolist()) for near_kind in (kind - 1, kind, kind + 1))
    return [cell + step for cell in cells for step in _NEIGHBORS]


def _read(fingerprint: bytes) -> tuple[NDArray[np.uint8], NDArray[np.float64], float]:
    """A fingerprint, its position along the directions, and its spread."""
    row = np.frombuffer(fingerprint, np.uint8)
    centered = row.astype(np.float64) - 127.5
    return row, _DIRECTIONS @ centered, float(spread(centered[None])[0])


def _kind(its_spread: float) -> int:
    if its_spread < _LEAST_SPREAD:
        return 0
    return 1 + int(math.log(its_spread / _LEAST_SPREAD, _RATIO))


def _width(its_spread: float) -> float:
    """The farthest that near-duplicates of such an image can be, as a plain distance."""
    farthest = min(max(FARTHEST_OF_SPREAD * its_spread, ROUNDING), FARTHEST)
    return 1.001 * farthest * math.sqrt(_LENGTH)  # A bit more, for rounding.


def _cell(kind: int, position: list[float]) -> int:
    """Return the number of a cell: its class, then its position in the class's grid of cells one threshold wide."""
    width = _width(_LEAST_SPREAD * _RATIO**kind)
    cell = kind
    for coordinate in reversed(position):
        cell = cell * _CELLS + int(coordinate // width) + _CELLS // 2
    return cell
