"""What lies in an encoder's folder, as Hugging Face's exporters leave it."""

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
        folder: With `tokenizer.json` and `model.onnx` or `text_model.onnx` in it; `vision_model.onnx` if it encodes
            images too. The models may be in a subfolder `onnx`.

    Raises:
        InvalidArgument: it is no folder, or has no model of texts.
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
        """Names what the vectors depend on: two encoders of the same digest make the same vectors."""
        digest = hashlib.sha256()
        models = [path for path in (self.text_model, self.image_model) if path]
        # Weights of more than 2 GB lie beside their model, as model.onnx_data or model.onnx.data.
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
        """The settings in a JSON file of the folder; none where there is no such file.

        Raises:
            InvalidArgument: it holds something else.
        """
        found = self._json(name)
        if found is not None and not isinstance(found, dict):
            raise InvalidArgument(f"{self.folder / name} is no JSON object", field="encoder")
        return found or {}

    def pooling(self) -> dict[str, Any] | None:
        """How the tokens' vectors become one, as Sentence Transformers writes it; None where nothing says it.

        Raises:
            InvalidArgument: the encoder has more to it than the ONNX model and pooling.
        """
        modules = self._json("modules.json") or [{"type": ".Pooling", "path": "1_Pooling"}]
        if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
            raise InvalidArgument(f"{self.folder / 'modules.json'} is no list of modules", field="encoder")
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
        """The path of a file without which it does not go.

        Raises:
            InvalidArgument: it is not there.
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
            raise InvalidArgument(f"{path} is no JSON: {error}", field="encoder") from error

    def _first(self, names: Sequence[str]) -> Path | None:
        return next((self.folder / name for name in names if (self.folder / name).is_file()), None)
