"""A small text encoder to try and measure dense search with: WordLlama's token vectors.

The package `wordllama` contains them in its wheel (MIT license): the input embeddings of a language model, trained
further so that the mean over a text's tokens represents its meaning. Here they become the retriever's input format, an
ONNX model with its tokenizer in a folder.
"""

import json
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

_PACKAGE = "wordllama"
TOKENIZER = f"{_PACKAGE}/tokenizers/l2_supercat_tokenizer_config.json"
WEIGHTS = f"{_PACKAGE}/weights/l2_supercat_256.safetensors"
_MODEL = "model.onnx"
_INPUTS, _OUTPUT = ("input_ids", "attention_mask"), "last_hidden_state"


def build(folder: Path) -> Path:
    """Write the encoder's folder unless it exists, and return its path."""
    encoder = folder / "encoder"
    if (encoder / _MODEL).exists():
        return encoder
    package = distribution(_PACKAGE)
    (encoder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    (encoder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    tokenizer = json.loads(Path(str(package.locate_file(TOKENIZER))).read_text())
    tokenizer["post_processor"] = None  # no token for a text's start, as in WordLlama's own encoding
    (encoder / "tokenizer.json").write_text(json.dumps(tokenizer))
    weights = load_file(str(package.locate_file(WEIGHTS)))
    onnx.save(_lookup(weights["embedding.weight"]), encoder / _MODEL)  # last: if it exists, the folder is complete
    return encoder


def _lookup(table: NDArray[np.float16]) -> onnx.ModelProto:
    """Return a model that maps each token to its row of the table, (tokens, channels)."""
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"]) for name in _INPUTS]
    shape = ["texts", "tokens", table.shape[1]]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", _INPUTS[0]], ["rows"], axis=0),
            helper.make_node("Cast", ["rows"], [_OUTPUT], to=TensorProto.FLOAT),
        ],
        "lookup",
        given,
        [helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    build(Path("build/demo"))
