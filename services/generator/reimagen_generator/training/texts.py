"""The texts of a training run, encoded once, before it begins.

A network that encodes texts costs more than to read its embeddings, and the texts are known: their embeddings are
written into the run's folder, and the network is let go. Where the network's files are absent, as on a machine that
only trains, embeddings that another machine stored there are used. Texts by hashed n-grams are encoded when they are
needed.
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
    """What is stored: the index beside the embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(description="Changes with the texts and with the encoder's files.")
    encoder: TextEncoderConfig
    length: int = Field(description="Most tokens of a text.")
    channels: int
    counts: dict[str, int] = Field(description="The texts in their order, and how many tokens each has.")


class StoredEmbeddings:
    """Embeddings read from disk, of the texts that are there."""

    def __init__(self, tokens: Float16[np.ndarray, "tokens channels"], length: int, counts: Mapping[str, int]) -> None:
        """Take the embeddings.

        Args:
            tokens: of all texts, one text after the other without padding; may be mapped.
            length: the most tokens of a text.
            counts: the texts in their order, and how many tokens each has.
        """
        self.length = length
        self.channels = tokens.shape[1]
        self._tokens = tokens
        ends = np.cumsum(list(counts.values())).tolist()
        self._ends = dict(zip(counts, ends, strict=True))
        self._counts = counts

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Embeddings of texts that are there."""
        tokens = np.zeros((len(texts), self.length, self.channels), np.float32)
        mask = np.zeros(tokens.shape[:2], bool)
        for row, text in enumerate(texts):
            count, end = self._counts[text], self._ends[text]
            tokens[row, :count] = self._tokens[end - count : end]
            mask[row, :count] = True
        return TextEmbedding(tokens, mask)


def training_text_encoder(cascade: CascadeConfig, config: TrainingConfig, source: ShardSource) -> TextEncoder:
    """What encodes the texts of a run's data.

    Raises:
        ValueError: there is no such text encoder, or it is not as wide as the networks expect.
    """
    folder = config.text_encoder or config.beginning
    if cascade.text_encoder == "hashed-ngrams":
        return load_text_encoder(cascade, folder)
    texts = sorted(source.texts() | {""})
    place = config.output / "texts"
    stored = _read_index(place)
    try:
        key = _key(cascade, folder, texts)
    except ValueError:  # the encoder's files are absent
        if stored is None or stored.encoder != cascade.text_encoder or not stored.counts.keys() >= set(texts):
            raise
    else:
        if stored is None or stored.key != key:
            stored = _encode(load_text_encoder(cascade, folder), cascade.text_encoder, texts, key, place)
            # What is compiled holds on to the encoder.
            jax.clear_caches()  # type: ignore[no-untyped-call]
            gc.collect()
    check_width(cascade, stored.channels)
    shape = (sum(stored.counts.values()), stored.channels)
    tokens = np.memmap(place / _TOKENS, np.float16, "r", shape=shape)
    return StoredEmbeddings(tokens, stored.length, stored.counts)


def _read_index(folder: Path) -> StoredTexts | None:
    """What is stored in a folder; None for nothing, or what another release wrote."""
    try:
        return StoredTexts.model_validate_json((folder / _INDEX).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _key(cascade: CascadeConfig, folder: Path | None, texts: Sequence[str]) -> str:
    """Changes with the texts and with the encoder's configuration and files."""
    status = [(path.name, path.stat()) for path in text_encoder_files(cascade, folder)]
    told = [cascade.model_dump()["text_encoder"], texts, [(name, s.st_size, s.st_mtime_ns) for name, s in status]]
    return hashlib.blake2b(json.dumps(told).encode()).hexdigest()


def _encode(
    encoder: TextEncoder, config: TextEncoderConfig, texts: Sequence[str], key: str, folder: Path
) -> StoredTexts:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _INDEX).unlink(missing_ok=True)  # written last, it says that all is there
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
