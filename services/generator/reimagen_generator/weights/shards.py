"""Safetensors in one or several files, read and written one tensor at a time.

Several files have the common layout of checkpoints: shards `NAME-00001-of-00003.safetensors` and so on, and an index,
`NAME.safetensors.index.json`, which maps each tensor to its file.
"""

import json
import struct
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

SHARD_BYTES = 4 * 1024**3
_CODES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(ml_dtypes.bfloat16): "BF16"}


class StoredTensors:
    """The tensors of one file, or of the files in an index; at most one file is open at a time."""

    def __init__(self, path: Path) -> None:
        """Read the names and shapes.

        Args:
            path: A safetensors file, or an index.

        Raises:
            ValueError: A file is missing or damaged, or its tensors are not those of the index.
        """
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, Path] = {}
        self._open: tuple[Path, Any] | None = None
        self._stack = ExitStack()
        files = {path: None}
        if path.suffix == ".json":
            weight_map = _weight_map(path)
            files = dict.fromkeys(path.parent / name for name in weight_map.values())
        for file in files:
            tensors = self._reader(file)
            for name in tensors.keys():  # noqa: SIM118  (no dict)
                self.shapes[name] = tuple(tensors.get_slice(name).get_shape())
                self._files[name] = file
        if path.suffix == ".json":
            for name in sorted(weight_map.keys() ^ self.shapes.keys()):
                raise ValueError(f"weights: {path} and the files that it names disagree about tensor {name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def order(self) -> dict[str, int]:
        """The index of each tensor, file by file: reading in this order opens each file once."""
        return {name: rank for rank, name in enumerate(self.shapes)}

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """Return a tensor in its stored type."""
        try:
            return np.asarray(self._reader(self._files[name]).get_tensor(name))
        except SafetensorError as error:
            raise ValueError(f"weights: cannot read {name} from {self._files[name]}: {error}") from error

    def _reader(self, file: Path) -> Any:
        if self._open is None or self._open[0] != file:
            self._stack.close()
            try:
                # Read, not memory-mapped: the mapped pages of a whole file would count as this process's memory.
                self._open = file, self._stack.enter_context(safe_open(file, "numpy", backend="pread"))
            except (OSError, SafetensorError) as error:
                raise ValueError(f"weights: cannot read {file}: {error}") from error
        return self._open[1]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to write, created when it is written."""

    shape: tuple[int, ...]
    make: Callable[[], np.ndarray[Any, Any]]


def write_tensors(
    path: Path,
    tensors: Mapping[str, TensorSpec],
    dtype: np.dtype[Any],
    metadata: dict[str, str],
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Write tensors in order, with at most one of them in memory. After an error, no file is left.

    Args:
        path: `NAME.safetensors`; if the file would be larger than `shard_bytes`, shards and an index next to it.
        tensors: The tensors to write.
        dtype: The stored type of all tensors: float32, float16 or bfloat16.
        metadata: Metadata in each file's header.
        shard_bytes: Maximum size of a file in bytes, unless one tensor is larger.

    Returns:
        The written files, the index last.

    Raises:
        ValueError: A number is too large for `dtype`.
    """
    shards = _shards(tensors, dtype.itemsize, shard_bytes)
    names = [
        path if len(shards) == 1 else path.with_name(f"{path.stem}-{i + 1:05}-of-{len(shards):05}{path.suffix}")
        for i in range(len(shards))
    ]
    index = None
    if len(shards) > 1:
        total = sum(spec_bytes(spec, dtype.itemsize) for spec in tensors.values())
        weight_map = {tensor: name.name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        index = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1) + "\n"
        names.append(path.with_name(f"{path.name}.index.json"))
    partials = [name.with_suffix(".partial") for name in names]
    try:
        for partial, shard in zip(partials, shards, strict=False):
            _write_file(partial, {name: tensors[name] for name in shard}, dtype, metadata)
        if index is not None:
            partials[-1].write_text(index)
    except BaseException:
        for partial in partials:
            partial.unlink(missing_ok=True)
        raise
    for partial, name in zip(partials, names, strict=True):
        partial.rename(name)
    return names


def spec_bytes(spec: TensorSpec, itemsize: int) -> int:
    """Return the size of a tensor on disk, in bytes."""
    return int(np.prod(spec.shape, dtype=np.int64)) * itemsize


def _shards(tensors: Mapping[str, TensorSpec], itemsize: int, shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, spec in tensors.items():
        size = spec_bytes(spec, itemsize)
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _write_file(path: Path, tensors: Mapping[str, TensorSpec], dtype: np.dtype[Any], metadata: dict[str, str]) -> None:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, spec in tensors.items():
        end = offset + spec_bytes(spec, dtype.itemsize)
        header[name] = {"dtype": _CODES[dtype], "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors start at a multiple of eight bytes
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name, spec in tensors.items():
            values = spec.make()
            assert values.shape == spec.shape, name
            with np.errstate(over="ignore"):
                stored = np.ascontiguousarray(values, dtype)
            if not np.isfinite(stored).all():
                raise ValueError(f"weights: {name} has numbers that {dtype} cannot hold")
            file.write(stored.data if dtype != ml_dtypes.bfloat16 else stored.view(np.uint16).data)


def _weight_map(path: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(path.read_text())["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"weights: cannot read the index {path}: {error}") from error
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ValueError(f"weights: the index {path} must have a weight_map, an object from tensors to file names")
    return weight_map
