"""Small versions of DeepFloyd IF's folders, and photographs with captions: `python -m parity.scaled_down FOLDER`.

diffusers and transformers write the random weights, so that the files have the published format. The photographs are
drawn; they show a few objects that differ in shape and color.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from transformers import T5Config, T5EncoderModel

from parity.pieces import train_pieces
from parity.test_imagen_unet import STAGE_I, STAGE_II, random_model

_LEVELS = 5
# As in IF-II, only the coarsest levels have attention.
_STAGE_II: dict[str, Any] = STAGE_II | {
    "block_out_channels": (*(32,) * (_LEVELS - 1), 64),
    "layers_per_block": 1,
    "down_block_types": (*("ResnetDownsampleBlock2D",) * (_LEVELS - 1), "SimpleCrossAttnDownBlock2D"),
    "up_block_types": ("SimpleCrossAttnUpBlock2D", *("ResnetUpsampleBlock2D",) * (_LEVELS - 1)),
    "time_embedding_dim": 64,
}
_STAGE_I: dict[str, Any] = STAGE_I | {
    "block_out_channels": (32, 32, 64),
    "down_block_types": (*("ResnetDownsampleBlock2D",) * 2, "SimpleCrossAttnDownBlock2D"),
    "up_block_types": ("SimpleCrossAttnUpBlock2D", *("ResnetUpsampleBlock2D",) * 2),
}
_THINGS = {
    "blue Fjordur stoneware teapot": (40, 90, 170),
    "orange Marmalade glass lamp": (230, 120, 20),
    "green Wexcombe mantel clock": (60, 140, 70),
}
_PLACES = ("on a table", "in a shop window", "beside a bed", "in the grass", "at the sea")


def write_checkpoints(folder: Path) -> None:
    """Write `IF-I-L-v1.0`, with its T5, and `IF-II-M-v1.0`."""
    stage_i = folder / "IF-I-L-v1.0"
    random_model(_STAGE_I).save_pretrained(stage_i / "unet")
    random_model(_STAGE_II).save_pretrained(folder / "IF-II-M-v1.0" / "unet", max_shard_size="1MB")
    torch.manual_seed(0)
    sizes = {"d_model": 48, "d_kv": 8, "d_ff": 80, "num_layers": 2, "num_heads": 4}
    config = T5Config(vocab_size=1000, feed_forward_proj="gated-gelu", tie_word_embeddings=False, **sizes)
    T5EncoderModel(config).save_pretrained(stage_i / "text_encoder")
    captions = [f"{thing} {place}" for thing in _THINGS for place in _PLACES]
    (stage_i / "tokenizer").mkdir()
    (stage_i / "tokenizer" / "spiece.model").write_bytes(train_pieces(captions, 300))


def write_photographs(folder: Path) -> None:
    """Write `NAME.jpg` and `NAME.txt` of each object in each scene."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for thing, color in _THINGS.items():
        for place in _PLACES:
            coarse = Image.fromarray(random.integers(60, 200, (6, 9, 3), np.uint8))
            image = coarse.resize((360, 240), Image.Resampling.BICUBIC)
            x, y, side = (int(random.integers(*bounds)) for bounds in ((90, 250), (70, 150), (80, 140)))
            ImageDraw.Draw(image).regular_polygon((x, y, side // 2), 3 + len(thing) % 5, 0, color)
            name = f"{thing} {place}".lower().replace(" ", "-")
            image.filter(ImageFilter.GaussianBlur(1)).save(folder / f"{name}.jpg", quality=90)
            (folder / f"{name}.txt").write_text(f"{thing} {place}\n")


if __name__ == "__main__":
    where = Path(sys.argv[1])
    write_checkpoints(where)
    write_photographs(where / "photographs")
