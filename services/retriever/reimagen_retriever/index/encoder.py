"""Encode texts and images into vectors with an ONNX encoder in a local folder: sentence encoders, CLIP and similar.

All vectors have length 1, so that the dot product of two is their cosine.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.index.encoder_files import EncoderFiles
from reimagen_retriever.index.encoder_pixels import ImageInput

Vectors = NDArray[np.float32]
"""(n, dimension), rows of length 1."""
TextKind = Literal["query", "document"]

BATCH = 32
_LONGEST_TEXT = 512
"""Maximum number of tokens of a text, if nothing in the folder states the encoder's limit."""
_TEXT_OUTPUTS = ("text_embeds", "sentence_embedding")
_TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")
_IMAGE_OUTPUTS = ("image_embeds",)
# SigLIP uses this name for its projected vectors, BERT for unprojected ones that are hardly useful.
_SIGLIP_OUTPUT = "pooler_output"
_POOLINGS = ("mean_tokens", "cls_token", "max_tokens", "lasttoken")


class Encoder:
    """An encoder of texts, and of images if its folder has a vision model. Safe to use from many threads.

    Args:
        folder: See `EncoderFiles`.

    Raises:
        InvalidArgument: A file is missing or invalid. The message names the file.
    """

    def __init__(self, folder: Path) -> None:
        files = EncoderFiles(folder)
        self._text = _TextTower(files)
        self._image = _ImageTower(files, files.image_model) if files.image_model else None
        self._files = files
        self.dimension: int = self.texts(["a"], "query").shape[1]

    @property
    def images_too(self) -> bool:
        """Whether the encoder can encode images."""
        return self._image is not None

    @cached_property
    def digest(self) -> str:
        """The digest of the encoder, see `EncoderFiles.digest`."""
        return self._files.digest()

    def texts(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Return the vectors of texts.

        Args:
            texts: At least one text. Long texts are truncated to the encoder's maximum length.
            kind: The kind of the texts, which selects the encoder's prompt, if it has prompts.
        """
        return self._in_batches(texts, lambda batch: self._text.encode(batch, kind))

    def images(self, images: Sequence[bytes]) -> Vectors:
        """Return the vectors of at least one image file.

        Raises:
            InvalidArgument: The encoder has no vision model.
            Exception: Pillow cannot decode a file. Its decoders raise various errors.
        """
        if self._image is None:
            raise InvalidArgument(f"{self._files.folder} has no vision_model.onnx", field="encoder")
        return self._in_batches(images, self._image.encode)

    def _in_batches(self, inputs: Sequence[Any], encode: Any) -> Vectors:
        found = [encode(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)]
        vectors = np.concatenate(found).astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise InvalidArgument(f"{self._files.folder} makes vectors that are zero or not finite", field="encoder")
        return np.asarray(vectors / lengths)


class _Model:
    """An ONNX model with named inputs and outputs."""

    def __init__(self, path: Path, known: Sequence[str]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise InvalidArgument(
                "needs onnxruntime and tokenizers: install reimagen-retriever[encoders]", field="encoder"
            ) from error
        self.path = path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Idle threads would otherwise spin and take cores from Lucene.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base class.
            raise InvalidArgument(f"onnxruntime cannot run {path}: {error}", field="encoder") from error
        self.inputs = {each.name: each for each in self.session.get_inputs()}
        self.outputs = [each.name for each in self.session.get_outputs()]
        unknown = self.inputs.keys() - set(known)
        if unknown or known[0] not in self.inputs:
            raise InvalidArgument(
                f"{path} has the inputs {', '.join(self.inputs)}; supported are {', '.join(known)}, required is "
                f"{known[0]}. Export a model of texts and images as text_model.onnx and vision_model.onnx",
                field="encoder",
            )

    def output(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self.outputs), None)

    def no_output(self, names: Sequence[str]) -> InvalidArgument:
        return InvalidArgument(
            f"{self.path} has the outputs {', '.join(self.outputs)}; one of {', '.join(names)} is required",
            field="encoder",
        )

    def run(self, output: str, inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
        (result,) = self.session.run([output], inputs)
        return np.asarray(result)


class _TextTower:
    def __init__(self, files: EncoderFiles) -> None:
        self._model = _Model(files.text_model, ("input_ids", "attention_mask", "token_type_ids"))
        config = files.settings("config.json")
        siglip = str(config.get("model_type", "")).startswith("siglip")
        pooled = (*_TEXT_OUTPUTS, _SIGLIP_OUTPUT) if siglip else _TEXT_OUTPUTS
        output = self._model.output(pooled)
        self._pooling = None
        if output is None:
            output = self._model.output(_TOKEN_OUTPUTS)
            if output is None:
                raise self._model.no_output((*pooled, *_TOKEN_OUTPUTS))
            self._pooling = _pooling(files, output)
        self._output = output
        prompts = files.settings("config_sentence_transformers.json").get("prompts") or {}
        self._prompts: dict[TextKind, str] = {
            "query": prompts.get("query") or "",
            "document": prompts.get("document") or prompts.get("passage") or "",
        }
        self._tokenizer = self._open_tokenizer(files, config, siglip)

    def encode(self, texts: Sequence[str], kind: TextKind) -> NDArray[Any]:
        # JSON and command lines can contain lone surrogates, which the tokenizer does not accept.
        clean = [(self._prompts[kind] + text).encode(errors="replace").decode() for text in texts]
        encoded = self._tokenizer.encode_batch(clean)
        inputs = {
            "input_ids": self._array("input_ids", [each.ids for each in encoded]),
            "attention_mask": self._array("attention_mask", [each.attention_mask for each in encoded]),
            "token_type_ids": self._array("token_type_ids", [each.type_ids for each in encoded]),
        }
        found = self._model.run(self._output, {name: inputs[name] for name in self._model.inputs})
        return found if self._pooling is None else _pool(self._pooling, found, inputs["attention_mask"])

    def _array(self, name: str, values: Sequence[Sequence[int]]) -> NDArray[Any]:
        given = self._model.inputs.get(name)
        return np.array(values, np.int32 if given and given.type == "tensor(int32)" else np.int64)

    def _open_tokenizer(self, files: EncoderFiles, config: dict[str, Any], siglip: bool) -> Any:
        from tokenizers import Tokenizer

        path = files.require("tokenizer.json")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # The library raises plain exceptions.
            raise InvalidArgument(f"{path} is not a valid tokenizer: {error}", field="encoder") from error
        length = _longest_text(files, config)
        fixed = self._model.inputs["input_ids"].shape[1:]
        if fixed and isinstance(fixed[0], int):
            length = fixed[0]
        tokenizer.enable_truncation(length)
        padding = tokenizer.padding or {}
        token = padding.get("pad_token") or _token(files.settings("tokenizer_config.json").get("pad_token"))
        number = padding.get("pad_id") if padding else tokenizer.token_to_id(token)
        pad_to_length = siglip or (fixed and isinstance(fixed[0], int))
        tokenizer.enable_padding(pad_id=number or 0, pad_token=token, length=length if pad_to_length else None)
        return tokenizer


class _ImageTower:
    def __init__(self, files: EncoderFiles, path: Path) -> None:
        self._model = _Model(path, ("pixel_values",))
        siglip = str(files.settings("config.json").get("model_type", "")).startswith("siglip")
        names = (*_IMAGE_OUTPUTS, _SIGLIP_OUTPUT) if siglip else _IMAGE_OUTPUTS
        output = self._model.output(names)
        if output is None:
            raise self._model.no_output(names)
        self._output = output
        settings = files.require("preprocessor_config.json")
        self._input = ImageInput.of(files.settings(settings.name), settings)

    def encode(self, images: Sequence[bytes]) -> NDArray[Any]:
        pixels = np.stack([self._input.pixels(image) for image in images])
        return self._model.run(self._output, {"pixel_values": pixels})


def _longest_text(files: EncoderFiles, config: dict[str, Any]) -> int:
    """Return the maximum length of a text, in tokens."""
    stated = (
        files.settings("sentence_bert_config.json").get("max_seq_length"),
        files.settings("tokenizer_config.json").get("model_max_length"),
    )
    # A tokenizer without a limit states 10^30.
    limits = [int(limit) for limit in stated if limit and limit < 1_000_000]
    if not limits:
        limits.append((config.get("text_config") or config).get("max_position_embeddings") or _LONGEST_TEXT)
    return min(limits)


def _token(setting: object) -> str:
    """Return a special token of tokenizer_config.json, which is a string or an object with properties."""
    return str(setting.get("content", "[PAD]")) if isinstance(setting, dict) else str(setting or "[PAD]")


def _pooling(files: EncoderFiles, output: str) -> str:
    settings = files.pooling()
    where = files.folder / "1_Pooling" / "config.json"
    if settings is None:
        raise InvalidArgument(
            f"{files.text_model} returns a vector for each token ({output}), and no pooling is configured: write "
            f'{{"pooling_mode_mean_tokens": true}} to {where}, or pooling_mode_cls_token if the model requires it',
            field="encoder",
        )
    chosen = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True]
    names = [name.removeprefix("pooling_mode_") for name in chosen]
    if len(names) != 1 or names[0] not in _POOLINGS:
        raise InvalidArgument(
            f"{where} must set one of {', '.join(f'pooling_mode_{name}' for name in _POOLINGS)} to true, "
            f"got {', '.join(chosen) or 'none'}",
            field="encoder",
        )
    return names[0]


def _pool(pooling: str, tokens: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
    """Pool the vectors of tokens (n, tokens, dimension) into one per text; the mask (n, tokens) excludes padding."""
    unpadded = mask.astype(bool)[:, :, None]
    match pooling:
        case "mean_tokens":
            return np.asarray((tokens * unpadded).sum(axis=1) / unpadded.sum(axis=1))
        case "max_tokens":
            return np.asarray(np.where(unpadded, tokens, -np.inf).max(axis=1))
        case "cls_token":
            return tokens[:, 0]
    last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
    return np.asarray(tokens[np.arange(len(tokens)), last])
