"""IF-I-L at its full size, 935M parameters, with random weights: `python -m parity.full_size`.

It needs 8 GB of disk in a temporary folder, 6 GB of memory and several minutes, which is too long for the tests.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from parity.compare import relative_error
from parity.test_imagen_unet import STAGE_I, inputs, ours, random_model, theirs
from reimagen_generator.config.networks import ImagenUNetConfig
from reimagen_generator.weights.importers.deepfloyd import import_deepfloyd

IF_I_L = STAGE_I | {
    "block_out_channels": (320, 640, 960, 1280),
    "layers_per_block": 3,
    "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
    "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
    "attention_head_dim": 64,
    "cross_attention_dim": 1280,
    "encoder_hid_dim": 4096,
    "addition_embed_type_num_heads": 64,
}


def main() -> None:
    """Print the number of parameters and the relative error of one evaluation at 64 × 64 with 77 tokens."""
    given = inputs(4096, 77, 64, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = random_model(IF_I_L)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        reference: np.ndarray = theirs(model, given, slice(0, 1), 77)
        model.save_pretrained(folder / "I" / "unet")
        del model
        started = time.monotonic()
        config = import_deepfloyd(folder / "I", folder / "out", dtype="float32")
        imported = time.monotonic() - started
        network = config.stages[0].network
        assert isinstance(network, ImagenUNetConfig)
        result = ours(folder / "out" / "stage-64.safetensors", network, given)
    print(f"{parameters / 1e6:.1f}M parameters, imported in {imported:.0f} s")  # noqa: T201
    print(f"relative error {relative_error(result, reference):.1e}")  # noqa: T201


if __name__ == "__main__":
    main()
