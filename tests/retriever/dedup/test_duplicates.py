"""Near-duplicates: the rule against its definition, and among many images against comparing all pairs."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reimagen_retriever.dedup.duplicates import DuplicateFinder
from reimagen_retriever.dedup.fingerprint_index import AddedFingerprints, FingerprintWriter, KeptFingerprints
from reimagen_retriever.knowledge_base.fingerprint import near_duplicates


def one_by_one(fingerprints: NDArray[np.uint8]) -> list[str]:
    """Return the first original of each image, by comparing all pairs."""
    originals: list[int] = []
    found = []
    for number, row in enumerate(fingerprints):
        near = near_duplicates(row[None], fingerprints[originals])[0] if originals else np.zeros(0, bool)
        found.append(str(originals[int(near.argmax())]) if near.any() else "")
        if not near.any():
            originals.append(number)
    return found


def fields(random: np.random.Generator, count: int, spread: float) -> NDArray[np.uint8]:
    """Return images that vary slowly around different brightnesses."""
    waves = np.cos(np.pi * np.outer(np.arange(8) + 0.5, np.arange(3)) / 8)
    grids = np.einsum("iu,nuvc,jv->nijc", waves, random.normal(size=(count, 3, 3, 3)), waves)
    grids = spread * grids + random.uniform(0, 255, (count, 1, 1, 1))
    return np.asarray(np.clip(grids, 0, 255).astype(np.uint8).reshape(count, 192))


def two_colors(random: np.random.Generator, count: int, apart: int) -> NDArray[np.uint8]:
    """Return images with two colors in halves; the standard deviation is half of their difference."""
    halves = np.tile(np.repeat([0, apart], 32)[:, None], (count, 1, 3))
    darker = random.choice([0, 255 - apart, *random.integers(0, 256 - apart, 3)], (count, 1, 3))
    return np.asarray((random.permuted(halves, axis=1) + darker).astype(np.uint8).reshape(count, 192))


def at_the_edge(random: np.random.Generator, row: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy at the maximum distance of near-duplicates, or one cell's change less or more."""
    farthest = np.clip(0.25 * np.sqrt(row.reshape(64, 3).var(axis=0).mean()), 0.5, 4)
    step = int(np.ceil(farthest)) + int(random.integers(0, 2))
    changes = random.permutation(192)[: round(192 * (farthest / step) ** 2) + random.integers(-1, 2)]
    changed = row.astype(np.int64)
    changed[changes] += np.where((row.mean() < 128) if random.integers(2) else (changed[changes] < 128), step, -step)
    return np.clip(changed, 0, 255).astype(np.uint8)


def by_definition(some: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which are near, computed in integers: squares times the common denominator."""
    whole = 16 * 64**2 * 3

    def quarter_of_spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        cells = rows.reshape(-1, 64, 3)
        return np.asarray((64 * (cells**2).sum(axis=1) - cells.sum(axis=1) ** 2).sum(axis=1))

    left, right = some.astype(np.int64), others.astype(np.int64)
    distance = whole // 192 * ((left[:, None] - right) ** 2).sum(axis=2)
    least = np.minimum(quarter_of_spread(left)[:, None], quarter_of_spread(right))
    return np.asarray(distance <= np.clip(least, whole // 2**2, whole * 4**2))


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    made=st.sampled_from([(fields, 0.0), (fields, 3.0), (fields, 10.0), (fields, 40.0)])
    | st.tuples(st.just(two_colors), st.sampled_from([0, 2, 8, 16, 24, 32, 64, 255])),
    count=st.integers(0, 8),
    copies=st.integers(0, 24),
    noise=st.floats(0, 5),
)
def test_nearness_equals_its_definition(
    seed: int, made: tuple[Callable[..., NDArray[np.uint8]], float], count: int, copies: int, noise: float
) -> None:
    random = np.random.default_rng(seed)
    make, spread = made
    some = make(random, count, spread)
    others = [*make(random, int(random.integers(0, 4)), spread)]
    for row in some[random.integers(0, count, copies)] if count else []:
        noisy = np.clip(np.rint(row + random.normal(0, noise, 192)), 0, 255).astype(np.uint8)
        others.append(noisy if random.integers(4) == 0 else at_the_edge(random, row))
    among = np.array(others, np.uint8).reshape(-1, 192)
    near = near_duplicates(some, among)
    np.testing.assert_array_equal(near, by_definition(some, among), strict=True)
    np.testing.assert_array_equal(near_duplicates(among, some), near.T, strict=True)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 1.0, 3.0, 10.0, 40.0]), st.floats(0, 5))
def test_it_equals_comparing_with_all(seed: int, spread: float, noise: float) -> None:
    random = np.random.default_rng(seed)
    some = fields(random, 30, spread)
    changed = some[random.integers(0, 30, 40)] + random.normal(random.uniform(-3, 3, (40, 1)), noise, (40, 192))
    fingerprints = np.concatenate([some, np.clip(changed, 0, 255).astype(np.uint8)])
    fingerprints = fingerprints[random.permutation(len(fingerprints))]
    finder = DuplicateFinder()
    found = [finder.find(f"{number}", row.tobytes()) for number, row in enumerate(fingerprints)]
    assert found == one_by_one(fingerprints)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 1.0, 10.0, 40.0]), st.floats(0, 5), st.integers(0, 70))
def test_stored_fingerprints_equal_comparing_with_all(
    tmp_path_factory: pytest.TempPathFactory, seed: int, spread: float, noise: float, built: int
) -> None:
    random = np.random.default_rng(seed)
    some = fields(random, 20, spread)
    changed = some[random.integers(0, 20, 50)] + random.normal(random.uniform(-3, 3, (50, 1)), noise, (50, 192))
    fingerprints = np.concatenate([some, np.clip(changed, 0, 255).astype(np.uint8)])
    folder = tmp_path_factory.mktemp("kept")
    writer = FingerprintWriter(folder, built)
    for number in range(built):
        writer.add(f"{number} ü", 3 * number, fingerprints[number].tobytes())
    writer.finish()
    kept = KeptFingerprints(AddedFingerprints(folder), built=True)
    for number in range(built, 70):
        kept.add(f"{number} ü", 3 * number, fingerprints[number].tobytes())
    for number, row in enumerate(fingerprints):
        near = [(3 * int(other), f"{other} ü") for other in np.flatnonzero(near_duplicates(row[None], fingerprints)[0])]
        assert [each for found in kept.near(row.tobytes()) for each in found] == near
        later = [each for each in near if each[0] > 3 * number]
        assert [each for found in kept.near(row.tobytes(), 3 * number) for each in found] == later
        assert kept.of(3 * number) == row.tobytes()
        assert kept.of(3 * number + 1) is None


def test_the_table_grows() -> None:
    fingerprints = fields(np.random.default_rng(0), 3_000, 40.0)
    finder = DuplicateFinder()
    assert [finder.find(f"{number}", row.tobytes()) for number, row in enumerate(fingerprints)] == one_by_one(
        fingerprints
    )
    assert finder.find("again", fingerprints[2_500].tobytes()) == "2500"


def test_remembered_fingerprints_are_found() -> None:
    fingerprint = fields(np.random.default_rng(0), 1, 40.0)[0].tobytes()
    finder = DuplicateFinder()
    finder.remember("first", fingerprint)
    assert finder.find("second", fingerprint) == "first"
