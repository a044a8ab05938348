from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reimagen_retriever.index.dense import DenseIndex, DenseWriter, Kind
from reimagen_retriever.index.dense_delta import FLOAT16, DenseWithAdded
from reimagen_retriever.knowledge_base.appended import AppendedWriter, read_appended
from reimagen_retriever.knowledge_base.damage import DamagedError

PAIRS, DIMENSION = 600, 8
KINDS: tuple[Kind, ...] = ("flat", "hnsw", "ivf-pq")

Vectors = NDArray[np.float32]


def vectors(count: int, seed: int) -> Vectors:
    made = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    # As read from a file of float16.
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, DenseIndex]:
    root = tmp_path_factory.mktemp("dense")
    made = {}
    for kind in KINDS:
        writer = DenseWriter(root / kind, PAIRS, DIMENSION)
        writer.add(vectors(PAIRS, 0))
        writer.finish(kind, [f"{row}" for row in range(PAIRS)])
        made[kind] = DenseIndex(root / kind, kind, PAIRS, DIMENSION)
    return made


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(
    groups=st.lists(st.lists(st.integers(0, PAIRS + 20), max_size=40), max_size=6),
    n=st.sampled_from([1, 5, 80, 2 * PAIRS]),
    seed=st.integers(0, 1_000),
)
def test_the_last_vector_of_each_pair_counts(
    tmp_path_factory: pytest.TempPathFactory,
    indexes: dict[Kind, DenseIndex],
    kind: Kind,
    groups: list[list[int]],
    n: int,
    seed: int,
) -> None:
    """Vectors added in groups equal a dictionary; views of earlier groups do not change."""
    path = tmp_path_factory.mktemp("added") / "added"
    now = {f"{row}": vector for row, vector in enumerate(vectors(PAIRS, 0))}
    writer = AppendedWriter(path, 0)
    views = [(DenseWithAdded(indexes[kind], path, DIMENSION), dict(now))]
    size = 0
    for number, group in enumerate(groups):
        for identifier, vector in zip(map(str, group), vectors(len(group), seed + number + 1), strict=True):
            writer.add(identifier, vector.astype(FLOAT16).tobytes())
            now[identifier] = vector
        size = writer.sync()
        views.append((views[-1][0].at(size), dict(now)))
    writer.close()
    views.append((DenseWithAdded(indexes[kind], path, DIMENSION).at(size), now))
    # One equals many of the index, so that the nearest vectors are outdated ones.
    query = vectors(1, 0)[0] if seed % 2 else vectors(1, seed)[0]
    for view, expected in views:
        rows, cosines = view.nearest(query, n)
        ids = [view.identifier(row) for row in rows]
        assert len(ids) == len(set(ids)) == min(n, len(expected))
        assert cosines.tolist() == pytest.approx([expected[name] @ query for name in ids], abs=1e-5)
        if kind == "flat" or n > PAIRS:
            best = sorted((float(vector @ query) for vector in expected.values()), reverse=True)[:n]
            assert cosines.tolist() == pytest.approx(best, abs=1e-5)
        asked = ["0", "1", "nobody", f"{PAIRS + 3}"]
        found = view.rows(asked)
        assert sorted(view.identifier(row) for row in found) == sorted(name for name in asked if name in expected)
        assert view.read(found) == pytest.approx(np.stack([expected[view.identifier(row)] for row in found]))


def test_only_the_committed_part_of_a_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "added"
    writer = AppendedWriter(path, 0)
    writer.add("a ü", b"12")
    first = writer.sync()
    writer.add("b", b"34")
    second = writer.sync()
    writer.add("torn", b"56")
    writer.close()
    assert [(record.id, record.data) for record in read_appended(path, 2, first, second)] == [("b", b"34")]
    writer = AppendedWriter(path, first)
    writer.add("c", b"78")
    size = writer.sync()
    writer.close()
    assert path.stat().st_size == size
    assert [(record.id, record.intact) for record in read_appended(path, 2, 0, size)] == [("a ü", True), ("c", True)]


def test_damage_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "added"
    with pytest.raises(DamagedError, match=r"cannot read .*added: No such file"):
        read_appended(path, 2, 0, 9)
    writer = AppendedWriter(path, 0)
    writer.add("a", b"12")
    size = writer.sync()
    writer.close()
    for end in (size + 1, size - 1, 3):
        with pytest.raises(DamagedError, match="does not have the records up to"):
            read_appended(path, 2, 0, end)
    path.write_bytes(path.read_bytes()[:-1] + b"3")
    assert [record.intact for record in read_appended(path, 2, 0, size)] == [False]
