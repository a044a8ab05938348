"""The files of an encoder's folder, as Hugging Face's exporters write them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reimagen_common.errors import InvalidArgument

_TEXT_MODELS = ("text_model.onnx", "onnx/text_model.onnx", "model.onnx", "onnx/model.onnx")
_IMAGE_MODELS = ("vision_model.onnx", "onnx/vision_model.onnx")
_BESIDE_THE_MODELS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "preprocessor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)


class EncoderFiles:
    """The files of one encoder.

    Args:
        folder: A folder with `tokenizer.json` and `model.onnx` or `text_model.onnx`, and with `vision_model.onnx` if
            the encoder encodes images. The models may be in a subfolder `onnx`.

    Raises:
        InvalidArgument: The path is not a folder, or the folder has no text model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise InvalidArgument(f"{folder} is not a folder", field="encoder")
        text_model = self._first(_TEXT_MODELS)
        if text_model is None:
            raise InvalidArgument(f"{folder} has none of {', '.join(_TEXT_MODELS)}", field="encoder")
        self.text_model = text_model
        self.image_model = self._first(_IMAGE_MODELS)

    def digest(self) -> str:
        """Return a digest of everything that the vectors depend on. Encoders with equal digests make equal vectors."""
        digest = hashlib.sha256()
        models = [path for path in (self.text_model, self.image_model) if path]
        # Weights above 2 GB are stored beside their model, as model.onnx_data or model.onnx.data.
        weights = [path for model in models for path in model.parent.glob(f"{model.name}[._]data*")]
        pooling = sorted(self.folder.glob("*_Pooling/config.json"))
        beside = [self.folder / name for name in _BESIDE_THE_MODELS]
        for path in (*models, *sorted(weights), *pooling, *beside):
            if path.is_file():
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.relative_to(self.folder)} {content}\n".encode())
        return digest.hexdigest()[:16]

    def settings(self, name: str) -> dict[str, Any]:
        """Return the settings in a JSON file of the folder, {} if the file does not exist.

        Raises:
            InvalidArgument: The file does not hold a JSON object.
        """
        found = self._json(name)
        if found is not None and not isinstance(found, dict):
            raise InvalidArgument(f"{self.folder / name} is not a JSON object", field="encoder")
        return found or {}

    def pooling(self) -> dict[str, Any] | None:
        """Return the pooling settings of Sentence Transformers, or None if there are none.

        Raises:
            InvalidArgument: The encoder has modules other than the ONNX model and pooling.
        """
        modules = self._json("modules.json") or [{"type": ".Pooling", "path": "1_Pooling"}]
        if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
            raise InvalidArgument(f"{self.folder / 'modules.json'} is not a list of modules", field="encoder")
        kinds = {str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", "")) for module in modules}
        unknown = kinds.keys() - {"Transformer", "Pooling", "Normalize"}
        if unknown:
            raise InvalidArgument(
                f"{self.folder / 'modules.json'} names {', '.join(sorted(unknown))}, which only Sentence Transformers "
                "can run; export it into the ONNX model, with an output `sentence_embedding`",
                field="encoder",
            )
        return self.settings(f"{kinds['Pooling']}/config.json") or None if "Pooling" in kinds else None

    def require(self, name: str) -> Path:
        """Return the path of a required file.

        Raises:
            InvalidArgument: The file is missing.
        """
        path = self.folder / name
        if not path.is_file():
            raise InvalidArgument(f"{path} is missing", field="encoder")
        return path

    def _json(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_bytes()) if path.is_file() else None
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"{path} is not valid JSON: {error}", field="encoder") from error

    def _first(self, names: Sequence[str]) -> Path | None:
        return next((self.folder / name for name in names if (self.folder / name).is_file()), None)
