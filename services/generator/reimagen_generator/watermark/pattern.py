"""The patterns of the watermark, by their spectra.

A tile is repeated over the luminance of the image. It is the sum of pseudo-random patterns: the pilot, which shows that
there is a mark and where its tiles begin, and one pattern for each byte of the id. The byte is the distance by which
the pattern is shifted. This is the scheme of T. Kalker, G. Depovere, J. Haitsma and M. Maes, "A video watermarking
system for broadcast monitoring", Proc. SPIE 3657, 1999. Here, each pattern has frequencies that no other one uses.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Complex, Float, Int

_STEPS: Final = 16
# The pilot must be found among all positions, a symbol among 256.
_PILOT_SHARE: Final = 0.4
# The version is part of every pattern: images of an earlier version would not be found if the patterns changed.
_KEY: Final = b"Re-Imagen watermark 1"
ALGORITHM: Final = "reimagen.watermark.1"
"""The name of the scheme and its version in C2PA manifests."""


@dataclass(frozen=True)
class Layer:
    """A pattern: the frequencies that it occupies, and its phase at each."""

    rows: Int[np.ndarray, "bins"]
    """Vertical frequency of each bin in cycles per tile, negative ones too."""
    columns: Int[np.ndarray, "bins"]
    """Horizontal frequency of each bin in cycles per tile, above 0."""
    phases: Complex[np.ndarray, "bins"]
    """Numbers of absolute value 1."""


@dataclass(frozen=True)
class Layout:
    """The size of the mark in an image that is resized to `side` pixels."""

    name: str
    """Name, which the patterns depend on."""
    side: int
    """Longer side of the resized image in pixels."""
    tile: int
    """Side of a tile in pixels of the resized image."""
    lowest: float
    highest: float
    """Frequencies of the patterns, in cycles per tile."""
    symbols: int = 0
    """Number of patterns that hold the id, one byte each; without them there is the pilot alone."""
    energy: float = 1
    """Mean square of a tile."""

    @cached_property
    def layers(self) -> list[Layer]:
        """The pilot and the patterns of the symbols."""
        rows, columns = np.meshgrid(np.arange(-self.tile // 2, self.tile // 2), np.arange(1, self.tile // 2))
        radius = np.hypot(rows, columns)
        used = (radius >= self.lowest) & (radius <= self.highest)
        rows, columns = rows[used], columns[used]
        words = np.frombuffer(hashlib.shake_256(_KEY + self.name.encode()).digest(4 * rows.size), "<u2").reshape(2, -1)
        order = np.argsort(words[0], kind="stable")
        phases = np.exp(2j * math.pi / 65_536 * words[1])
        pilot, rest = np.split(order, [round(_PILOT_SHARE * order.size) if self.symbols else order.size])
        symbols = np.array_split(rest, self.symbols) if self.symbols else []
        return [Layer(rows[one], columns[one], phases[one]) for one in (pilot, *symbols)]

    def spectrum(self, layer: Layer) -> Complex[np.ndarray, "tile half"]:
        """Return a pattern's spectrum as `numpy.fft.irfft2` reads it."""
        spectrum = np.zeros((self.tile, self.tile // 2 + 1), np.complex128)
        spectrum[layer.rows, layer.columns] = layer.phases
        return spectrum

    @cached_property
    def conjugates(self) -> list[Complex[np.ndarray, "tile half"]]:
        """The conjugate spectrum of each pattern, for its detection."""
        return [np.conj(self.spectrum(layer)) for layer in self.layers]

    @property
    def step(self) -> int:
        """The distance in pixels between two values of a symbol."""
        return self.tile // _STEPS

    def draw(self, mark: int) -> Float[np.ndarray, "tile tile"]:
        """Return the tile of an id, with a mean square of `energy`."""
        spectrum = self.spectrum(self.layers[0])
        for layer, symbol in zip(self.layers[1:], mark.to_bytes(4, "big"), strict=False):
            down, right = divmod(symbol, _STEPS)
            turns = (layer.rows * down + layer.columns * right) / _STEPS
            spectrum[layer.rows, layer.columns] = layer.phases * np.exp(-2j * math.pi * turns)
        tile = np.fft.irfft2(spectrum, s=(self.tile, self.tile))
        return np.asarray(tile * np.sqrt(self.energy / np.mean(tile**2)), np.float32)


LARGE: Final = Layout("large", side=256, tile=128, lowest=9, highest=30, symbols=4, energy=0.7)
# An image of 64 pixels has no room for an id. At half its size, only the low frequencies are left; without its edges,
# the high ones are found best.
COARSE: Final = Layout("coarse", side=64, tile=64, lowest=5, highest=15, energy=0.8)
FINE: Final = Layout("fine", side=64, tile=64, lowest=15.1, highest=26, energy=0.4)
LAYOUTS: Final = (LARGE, COARSE, FINE)
_LARGE_FROM: Final = 128


def layouts_of(side: int) -> tuple[Layout, ...]:
    """Return the layouts of images whose longer side has so many pixels. All have the same side."""
    return (COARSE, FINE) if side < _LARGE_FROM else (LARGE,)
