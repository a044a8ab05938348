"""Speed, recall and size of each kind of dense index, and of `added`, a delta that is searched beside an index.

    python -m benchmarks.dense [PAIRS] [DIMENSION] [KIND...]

The vectors are made up, in neighborhoods of 50, and queries are near them. Times are processor times of searches one by
one in one thread. Recall is the share of the true ten nearest vectors among the ten found.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from reimagen_retriever.index.dense import Dense, DenseIndex, DenseWriter, Kind
from reimagen_retriever.index.dense_delta import FLOAT16, DenseWithAdded
from reimagen_retriever.knowledge_base.appended import AppendedWriter

QUERIES, K = 200, 10
KINDS: tuple[Kind, ...] = ("flat", "hnsw", "ivf-pq")


def vectors(pairs: int, dimension: int) -> NDArray[np.float32]:
    """Return unit vectors in neighborhoods, as encoders arrange them."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((max(1, pairs // 50), dimension)).astype(np.float32)
    made = centers[rng.integers(0, len(centers), pairs)]
    made += np.float32(0.7) * rng.standard_normal((pairs, dimension)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))


def indexed(kind: Kind, made: NDArray[np.float32], folder: Path) -> DenseIndex:
    """Return an index of all the vectors."""
    pairs, dimension = made.shape
    writer = DenseWriter(folder, pairs, dimension)
    writer.add(made)
    writer.finish(kind, map(str, range(pairs)))
    return DenseIndex(folder, kind, pairs, dimension)


def added(made: NDArray[np.float32], folder: Path) -> DenseWithAdded:
    """Return an index of the first vector, with all others in its delta."""
    index = indexed("flat", made[:1], folder)
    writer = AppendedWriter(folder / "added", 0)
    for number, vector in enumerate(made[1:].astype(FLOAT16), start=1):
        writer.add(f"{number}", vector.tobytes())
    size = writer.sync()
    writer.close()
    return DenseWithAdded(index, folder / "added", made.shape[1]).at(size)


def measure(kind: str, made: NDArray[np.float32], folder: Path) -> str:
    """Build an index, search it, and return its line of the table."""
    pairs, dimension = made.shape
    start = time.process_time()
    index: Dense = added(made, folder) if kind == "added" else indexed(cast(Kind, kind), made, folder)
    built = time.process_time() - start
    rng = np.random.default_rng(1)
    noise = 0.5 * rng.standard_normal((QUERIES, dimension)).astype(np.float32) / np.sqrt(dimension)
    queries = made[rng.integers(0, pairs, QUERIES)] + noise
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    times, right = [], 0
    for query in queries:
        start = time.process_time()
        rows, _ = index.nearest(query, K)
        times.append(time.process_time() - start)
        right += len({*rows.tolist()} & {*np.argsort(-(made @ query))[:K].tolist()})
    size = (folder / ("added" if kind == "added" else "index.faiss")).stat().st_size
    return (
        f"{kind:7} {1e3 * np.median(times):8.2f} {1e3 * np.quantile(times, 0.95):8.2f} {right / K / QUERIES:8.3f} "
        f"{size / pairs:12.0f} {built:10.1f}"
    )


def main() -> None:
    """Print the table."""
    pairs, dimension = (int(number) for number in (*sys.argv[1:3], *("20000", "384")[len(sys.argv[1:3]) :]))
    made = vectors(pairs, dimension)
    print(f"{pairs:,} vectors of {dimension} dimensions")
    print("kind      p50 ms   p95 ms   recall  bytes/vector  build s")
    for kind in (*KINDS, "added"):
        if kind in sys.argv[3:] or not sys.argv[3:]:
            with tempfile.TemporaryDirectory() as folder:
                print(measure(kind, made, Path(folder) / "vectors"), flush=True)


if __name__ == "__main__":
    main()
