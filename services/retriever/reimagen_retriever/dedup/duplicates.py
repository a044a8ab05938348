"""Incremental search for near-duplicates among very many images.

Comparing each image with all earlier ones takes about 10^12 comparisons for a million images. Instead, fingerprints are
stored in a grid over four of their directions: brightness, its slope down and across, and red against blue. The
distance along a direction is never more than the whole distance, so near-duplicates are in the same cell or in adjacent
ones. Only those are compared, by the exact rule. So no near-duplicate is missed, results depend neither on training nor
on batches, and an interrupted build finds the same ones as an uninterrupted build.

The threshold depends on an image's spread (see `fingerprint`), and near-duplicates have similar spreads. So each class
of spreads has a separate grid, whose cells are as wide as the class's threshold.
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
"""Ratio of the spreads of adjacent classes: slightly more than the ratio 1 + FARTHEST_OF_SPREAD of near-duplicates."""
_LEAST_SPREAD = ROUNDING / FARTHEST_OF_SPREAD
"""Smaller spreads form one class."""
_CELLS = 1_024
"""Cells in each direction, centered on gray: more than the finest grid has."""


def _directions() -> NDArray[np.float64]:
    """Return orthonormal cosines of low frequency, (16, 192); the first four are those of the grid."""
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
_ADJACENT = [
    sum(move * step for move, step in zip(moves, _STEPS, strict=True))
    for moves in itertools.product((-1, 0, 1), repeat=4)
]


class DuplicateFinder:
    """Index of originals that finds the original of each new image.

    Near-duplicates are not added themselves, so that a chain of small changes does not link very different images. Each
    original takes about 0.6 kB of memory.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._fingerprints = np.empty((1_024, _LENGTH), np.uint8)
        self._positions = np.empty((1_024, len(_DIRECTIONS)), np.float32)
        self._cells: dict[int, list[int]] = defaultdict(list)

    def find(self, identifier: str, fingerprint: bytes) -> str:
        """Return the id of the first original that an image is a near-duplicate of, or add it and return ''."""
        row, position, its_spread = _read(fingerprint)
        near = self._near(row, position, its_spread)
        if near is not None:
            return self._ids[near]
        self.remember(identifier, fingerprint)
        return ""

    def remember(self, identifier: str, fingerprint: bytes) -> None:
        """Add an image that is known to be an original."""
        row, position, its_spread = _read(fingerprint)
        if len(self._ids) == len(self._fingerprints):
            self._fingerprints = np.concatenate([self._fingerprints, np.empty_like(self._fingerprints)])
            self._positions = np.concatenate([self._positions, np.empty_like(self._positions)])
        self._fingerprints[len(self._ids)] = row
        self._positions[len(self._ids)] = position
        self._cells[_cell(_spread_class(its_spread), position[:4].tolist())].append(len(self._ids))
        self._ids.append(identifier)

    def _near(self, row: NDArray[np.uint8], position: NDArray[np.float64], its_spread: float) -> int | None:
        """Return the first near-duplicate, by position along the directions and then by the exact rule."""
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
    """Return the cell numbers of fingerprints, (n, 192)."""
    centered = fingerprints.astype(np.float64) - 127.5
    positions = centered @ _DIRECTIONS[:4].T
    pairs = zip(spread(centered).tolist(), positions.tolist(), strict=True)
    return np.array([_cell(_spread_class(its_spread), position) for its_spread, position in pairs], np.int64)


def cells_around(fingerprint: bytes) -> list[int]:
    """Return the numbers of the cells that contain all near-duplicates of an image."""
    _, position, its_spread = _read(fingerprint)
    return _around(position, its_spread)


def _around(position: NDArray[np.float64], its_spread: float) -> list[int]:
    spread_class = _spread_class(its_spread)
    cells = (
        _cell(near_class, position[:4].tolist()) for near_class in (spread_class - 1, spread_class, spread_class + 1)
    )
    return [cell + step for cell in cells for step in _ADJACENT]


def _read(fingerprint: bytes) -> tuple[NDArray[np.uint8], NDArray[np.float64], float]:
    """Return a fingerprint, its position along the directions, and its spread."""
    row = np.frombuffer(fingerprint, np.uint8)
    centered = row.astype(np.float64) - 127.5
    return row, _DIRECTIONS @ centered, float(spread(centered[None])[0])


def _spread_class(its_spread: float) -> int:
    if its_spread < _LEAST_SPREAD:
        return 0
    return 1 + int(math.log(its_spread / _LEAST_SPREAD, _RATIO))


def _width(its_spread: float) -> float:
    """Return the largest Euclidean distance of near-duplicates of an image with this spread."""
    farthest = min(max(FARTHEST_OF_SPREAD * its_spread, ROUNDING), FARTHEST)
    return 1.001 * farthest * math.sqrt(_LENGTH)  # Slightly more, for rounding errors.


def _cell(spread_class: int, position: list[float]) -> int:
    """Return the number of a cell: its class, then its position in the class's grid of cells one threshold wide."""
    width = _width(_LEAST_SPREAD * _RATIO**spread_class)
    cell = spread_class
    for coordinate in reversed(position):
        cell = cell * _CELLS + int(coordinate // width) + _CELLS // 2
    return cell
