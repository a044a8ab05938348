"""The texts of a training run, encoded once, before it begins.

A T5 is larger than most of what it is used to train, and the texts are known: their embeddings are written into the
run's folder, and the T5 is let go. Texts by hashed n-grams are encoded when they are needed.
"""

import gc
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float16
from tqdm import tqdm

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.text.encoder import TextEmbedding, TextEncoder
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.text.t5_encoder import t5_files
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.data import ShardSource

_BATCH = 8
_TOKENS, _INDEX = "tokens.npy", "texts.json"


class StoredEmbeddings:
    """Embeddings read from disk, of the texts that are there."""

    def __init__(self, tokens: Float16[np.ndarray, "texts length channels"], counts: Mapping[str, int]) -> None:
        """Takes the embeddings.

        Args:
            tokens: of each text, which may be mapped.
            counts: the texts in their order, and how many tokens of each are no padding.
        """
        _, self.length, self.channels = tokens.shape
        self._tokens = tokens
        self._counts = np.array(list(counts.values()))
        self._rows = {text: row for row, text in enumerate(counts)}

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Embeddings of texts that are there."""
        rows = np.array([self._rows[text] for text in texts], int)
        mask = np.arange(self.length) < self._counts[rows, None]
        return TextEmbedding(self._tokens[rows].astype(np.float32), mask)


def training_text_encoder(cascade: CascadeConfig, config: TrainingConfig, source: ShardSource) -> TextEncoder:
    """What encodes the texts of a run's data.

    Raises:
        ValueError: there is no such text encoder, or it is not as wide as the networks expect.
    """
    folder = config.text_encoder or config.beginning
    if cascade.text_encoder == "hashed-ngrams" or folder is None:
        return load_text_encoder(cascade, folder)
    texts = sorted(source.texts() | {""})
    stored = config.output / "texts"
    key = _key(folder, cascade.text_encoder.length, texts)
    index = stored / _INDEX
    if not index.is_file() or json.loads(index.read_text())["key"] != key:
        _encode(load_text_encoder(cascade, folder), texts, key, stored)
        # What is compiled holds on to the encoder.
        jax.clear_caches()  # type: ignore[no-untyped-call]
        gc.collect()
    counts = json.loads(index.read_text())["tokens"]
    return StoredEmbeddings(np.load(stored / _TOKENS, mmap_mode="r"), counts)


def _key(folder: Path, length: int, texts: Sequence[str]) -> str:
    """Changes with the texts and with the encoder's files."""
    files = t5_files(folder)
    status = [(path.name, path.stat()) for path in sorted([*files.model.glob("*.safetensors"), files.pieces])]
    told = [length, texts, files.config.model_dump(), [(name, s.st_size, s.st_mtime_ns) for name, s in status]]
    return hashlib.blake2b(json.dumps(told).encode()).hexdigest()


def _encode(encoder: TextEncoder, texts: Sequence[str], key: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _INDEX).unlink(missing_ok=True)  # written last, it says that all is there
    shape = (len(texts), encoder.length, encoder.channels)
    tokens = np.lib.format.open_memmap(folder / _TOKENS, "w+", np.float16, shape)
    counts: list[int] = []
    for start in tqdm(range(0, len(texts), _BATCH), desc="texts", unit=f"{_BATCH} texts"):
        embedding = encoder.encode(texts[start : start + _BATCH])
        tokens[start : start + _BATCH] = np.asarray(embedding.tokens)
        counts += np.asarray(embedding.mask).sum(axis=1).tolist()
    tokens.flush()
    index = folder / f"{_INDEX}.partial"
    index.write_text(json.dumps({"key": key, "tokens": dict(zip(texts, counts, strict=True))}, ensure_ascii=False))
    index.rename(folder / _INDEX)
