"""Finding the weights in a folder as transformers and diffusers write it."""

from pathlib import Path

_VARIANTS = ("", "bf16", "fp16")


def find_checkpoint(folder: Path, stem: str) -> Path:
    """The safetensors file of a folder, or the index of several; the most exact of its variants.

    Args:
        folder: holds the files.
        stem: what their names begin with: `model` for transformers, `diffusion_pytorch_model` for diffusers.

    Raises:
        ValueError: there is none.
    """
    for variant in _VARIANTS:
        single = ".".join(filter(None, (stem, variant, "safetensors")))
        index = ".".join(filter(None, (stem, "safetensors.index", variant, "json")))
        for path in (folder / single, folder / index):
            if path.is_file():
                return path
    hint = ""
    if folder.is_dir() and any(folder.glob("*.bin")):
        hint = "; *.bin files are not read, since they can run code: take the model's safetensors instead"
    raise ValueError(f"weights: there is no {stem}.safetensors and no {stem}.safetensors.index.json in {folder}{hint}")
