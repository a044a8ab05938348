from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reimagen_retriever.index.dense import FLAT_UP_TO, HNSW_UP_TO, DenseIndex, DenseWriter, Kind, kind_for
from reimagen_retriever.knowledge_base.damage import DamagedError

PAIRS, DIMENSION = 1_500, 16
KINDS: tuple[Kind, ...] = ("flat", "hnsw", "ivf-pq")

Vectors = NDArray[np.float32]


def vectors() -> Vectors:
    """Return clustered vectors, like those of encoders."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((60, DIMENSION))
    made = centers[rng.integers(0, 60, PAIRS)] + 0.5 * rng.standard_normal((PAIRS, DIMENSION))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def identifier(row: int) -> str:
    return f"pair/{row} ü"


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, DenseIndex]:
    root = tmp_path_factory.mktemp("dense")
    made = {}
    for kind in KINDS:
        writer = DenseWriter(root / kind, PAIRS, DIMENSION)
        for start in range(0, PAIRS, 700):
            writer.add(vectors()[start : start + 700])
        writer.finish(kind, map(identifier, range(PAIRS)))
        made[kind] = DenseIndex(root / kind, kind, PAIRS, DIMENSION)
    return made


def brute_force(query: Vectors, n: int) -> tuple[list[int], list[float]]:
    cosines = vectors().astype(np.float16).astype(np.float32) @ query
    order = np.argsort(-cosines, kind="stable")[:n]
    return order.tolist(), cosines[order].tolist()


def queries(count: int) -> Vectors:
    rng = np.random.default_rng(1)
    made = vectors()[rng.integers(0, PAIRS, count)] + 0.1 * rng.standard_normal((count, DIMENSION)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))


@pytest.mark.parametrize("n", [1, 10, PAIRS - 1, PAIRS, 10 * PAIRS])
def test_a_flat_index_equals_comparing_with_all(indexes: dict[Kind, DenseIndex], n: int) -> None:
    for query in queries(20):
        rows, cosines = indexes["flat"].nearest(query, n)
        expected_rows, expected = brute_force(query, n)
        assert cosines.tolist() == pytest.approx(expected, abs=1e-6)
        # Cosines that are equal up to rounding may come in either order.
        assert set(rows[:-1].tolist()) - set(expected_rows) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_cosines_do_not_depend_on_the_kind_of_index(indexes: dict[Kind, DenseIndex], kind: Kind) -> None:
    stored = vectors().astype(np.float16).astype(np.float32)
    for query in queries(20):
        rows, cosines = indexes[kind].nearest(query, 10)
        assert cosines.tolist() == pytest.approx((stored[rows] @ query).tolist(), abs=1e-6)
        assert cosines.tolist() == sorted(cosines.tolist(), reverse=True)
        assert len(set(rows.tolist())) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_the_recall_is_nearly_one(indexes: dict[Kind, DenseIndex], kind: Kind) -> None:
    found = [
        len({*indexes[kind].nearest(query, 10)[0].tolist()} & {*brute_force(query, 10)[0]}) for query in queries(100)
    ]
    assert sum(found) >= 950


@pytest.mark.parametrize("kind", KINDS)
def test_a_k_of_all_vectors_returns_all(indexes: dict[Kind, DenseIndex], kind: Kind) -> None:
    rows, cosines = indexes[kind].nearest(queries(1)[0], PAIRS)
    assert sorted(rows.tolist()) == list(range(PAIRS))
    assert cosines.tolist() == pytest.approx(brute_force(queries(1)[0], PAIRS)[1], abs=1e-6)


def test_rows_and_ids_correspond(indexes: dict[Kind, DenseIndex]) -> None:
    index = indexes["flat"]
    assert [index.identifier(row) for row in (0, 7, PAIRS - 1)] == [identifier(row) for row in (0, 7, PAIRS - 1)]
    asked = [identifier(5), "nobody's", identifier(PAIRS - 1), "", identifier(PAIRS)]
    assert sorted(index.rows(asked).tolist()) == [5, PAIRS - 1]
    assert index.rows([]).tolist() == []


@settings(deadline=None)
@given(st.lists(st.integers(0, PAIRS - 1), min_size=1, max_size=50, unique=True), st.integers(1, 60))
def test_the_best_of_given_rows_are_found(indexes: dict[Kind, DenseIndex], rows: list[int], n: int) -> None:
    query = queries(1)[0]
    found, cosines = indexes["hnsw"].best(np.array(rows), query, n)
    among = [row for row in brute_force(query, PAIRS)[0] if row in set(rows)][:n]
    assert set(found.tolist()) == set(among)
    assert len(cosines) == min(n, len(rows))


def test_the_kind_of_index_depends_on_its_size() -> None:
    assert [kind_for(pairs) for pairs in (1, FLAT_UP_TO, FLAT_UP_TO + 1, HNSW_UP_TO, HNSW_UP_TO + 1)] == [
        "flat",
        "flat",
        "hnsw",
        "hnsw",
        "ivf-pq",
    ]


def test_an_interrupted_build_of_the_index_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reimagen_retriever.index.dense._CHECKPOINT_SECONDS", 0)
    first = DenseWriter(tmp_path / "vectors", 100, DIMENSION)
    first.add(vectors()[:60])
    del first
    second = DenseWriter(tmp_path / "vectors", 100, DIMENSION)
    assert second.done == 60
    second.add(vectors()[60:100])
    second.finish("flat", map(identifier, range(100)))
    index = DenseIndex(tmp_path / "vectors", "flat", 100, DIMENSION)
    for row in (0, 59, 60, 99):
        assert index.nearest(vectors()[row], 1)[0].tolist() == [row]


@pytest.mark.parametrize("name", ["index.faiss", "vectors.npy", "ids.npy", "offsets.npy", "digests.npy", "rows.npy"])
def test_damage_is_reported(tmp_path: Path, name: str) -> None:
    writer = DenseWriter(tmp_path / "vectors", 10, DIMENSION)
    writer.add(vectors()[:10])
    writer.finish("flat", map(identifier, range(10)))
    with pytest.raises(DamagedError, match="does not hold 11 vectors"):
        DenseIndex(tmp_path / "vectors", "flat", 11, DIMENSION)
    path = tmp_path / "vectors" / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DamagedError, match="cannot read the vectors"):
        DenseIndex(tmp_path / "vectors", "flat", 10, DIMENSION)
