"""The texts of a training run, encoded once before it starts.

Encoding with a network costs more than reading its embeddings, and the texts are known. So their embeddings are written
into the run's folder, and the network is released. If the network's files are missing, as on a machine that only
trains, the run uses embeddings that another machine stored there. Hashed n-grams are computed on demand instead.
"""

import gc
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float16
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.text import TextEncoderConfig
from reimagen_generator.text.encoder import TextEmbedding, TextEncoder
from reimagen_generator.text.registry import check_width, load_text_encoder, text_encoder_files
from reimagen_generator.training.config import TrainingConfig
from reimagen_generator.training.data import ShardSource

_BATCH = 8
_TOKENS, _INDEX = "tokens.f16", "texts.json"


class StoredTexts(BaseModel):
    """The stored index of the embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(description="Hash of the texts and of the encoder's files.")
    encoder: TextEncoderConfig
    length: int = Field(description="Maximum number of tokens of a text.")
    channels: int
    counts: dict[str, int] = Field(description="Number of tokens of each text, in the order of the embeddings.")


class StoredEmbeddings:
    """A text encoder that reads stored embeddings; it can only encode the stored texts."""

    def __init__(self, tokens: Float16[np.ndarray, "tokens channels"], length: int, counts: Mapping[str, int]) -> None:
        """Create an encoder of stored embeddings.

        Args:
            tokens: The embeddings of all texts, concatenated without padding; may be memory-mapped.
            length: Maximum number of tokens of a text.
            counts: Number of tokens of each text, in the order of the embeddings.
        """
        self.length = length
        self.channels = tokens.shape[1]
        self._tokens = tokens
        ends = np.cumsum(list(counts.values())).tolist()
        self._ends = dict(zip(counts, ends, strict=True))
        self._counts = counts

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Return the embeddings of stored texts."""
        tokens = np.zeros((len(texts), self.length, self.channels), np.float32)
        mask = np.zeros(tokens.shape[:2], bool)
        for row, text in enumerate(texts):
            count, end = self._counts[text], self._ends[text]
            tokens[row, :count] = self._tokens[end - count : end]
            mask[row, :count] = True
        return TextEmbedding(tokens, mask)


def training_text_encoder(cascade: CascadeConfig, config: TrainingConfig, source: ShardSource) -> TextEncoder:
    """Return the encoder of the texts of a run's data.

    Raises:
        ValueError: There is no such text encoder, or its width is not that of the networks.
    """
    folder = config.text_encoder or config.beginning
    if cascade.text_encoder == "hashed-ngrams":
        return load_text_encoder(cascade, folder)
    texts = sorted(source.texts() | {""})
    folder_of_texts = config.output / "texts"
    stored = _read_index(folder_of_texts)
    try:
        key = _key(cascade, folder, texts)
    except ValueError:  # the encoder's files are absent
        if stored is None or stored.encoder != cascade.text_encoder or not stored.counts.keys() >= set(texts):
            raise
    else:
        if stored is None or stored.key != key:
            stored = _encode(load_text_encoder(cascade, folder), cascade.text_encoder, texts, key, folder_of_texts)
            # The compiled functions hold references to the encoder.
            jax.clear_caches()  # type: ignore[no-untyped-call]
            gc.collect()
    check_width(cascade, stored.channels)
    shape = (sum(stored.counts.values()), stored.channels)
    tokens = np.memmap(folder_of_texts / _TOKENS, np.float16, "r", shape=shape)
    return StoredEmbeddings(tokens, stored.length, stored.counts)


def _read_index(folder: Path) -> StoredTexts | None:
    """Return the index in a folder; None if there is none, or if another release wrote it."""
    try:
        return StoredTexts.model_validate_json((folder / _INDEX).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _key(cascade: CascadeConfig, folder: Path | None, texts: Sequence[str]) -> str:
    """Return a hash of the texts and of the encoder's configuration and files."""
    status = [(path.name, path.stat()) for path in text_encoder_files(cascade, folder)]
    contents = [cascade.model_dump()["text_encoder"], texts, [(name, s.st_size, s.st_mtime_ns) for name, s in status]]
    return hashlib.blake2b(json.dumps(contents).encode()).hexdigest()


def _encode(
    encoder: TextEncoder, config: TextEncoderConfig, texts: Sequence[str], key: str, folder: Path
) -> StoredTexts:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _INDEX).unlink(missing_ok=True)  # written last, so that its presence means complete embeddings
    counts: list[int] = []
    with (folder / _TOKENS).open("wb") as file:
        for start in tqdm(range(0, len(texts), _BATCH), desc="texts", unit=f"{_BATCH} texts"):
            embedding = encoder.encode(texts[start : start + _BATCH])
            mask = np.asarray(embedding.mask)
            file.write(np.asarray(embedding.tokens)[mask].astype(np.float16).tobytes())
            counts += mask.sum(axis=1).tolist()
    index = StoredTexts(
        key=key,
        encoder=config,
        length=encoder.length,
        channels=encoder.channels,
        counts=dict(zip(texts, counts, strict=True)),
    )
    partial = folder / f"{_INDEX}.partial"
    partial.write_text(index.model_dump_json())
    partial.rename(folder / _INDEX)
    return index
