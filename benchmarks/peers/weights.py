"""The same random weights for both peers: written by diffusers, and imported from its files."""

import sys
from pathlib import Path

from parity.full_size import IF_I_L
from parity.test_imagen_unet import random_model
from reimagen_generator.weights.importers.deepfloyd import import_deepfloyd

SCALED_DOWN = IF_I_L | {
    "block_out_channels": (128, 256, 384, 512),
    "cross_attention_dim": 512,
    "encoder_hid_dim": 768,
    "addition_embed_type_num_heads": 12,
}
"""IF-I-L at 0.4 of its widths, with text channels at a fifth."""


def main(folder: Path) -> None:
    """Write the folders `theirs` and `ours`."""
    model = random_model(SCALED_DOWN)
    print(f"IF-I-L scaled down to {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M parameters, float32")
    model.save_pretrained(folder / "theirs" / "unet")
    import_deepfloyd(folder / "theirs", folder / "ours", dtype="float32")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
