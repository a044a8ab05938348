"""Search for the weights in a folder written by transformers or diffusers."""

from pathlib import Path

_VARIANTS = ("", "bf16", "fp16")


def find_checkpoint(folder: Path, stem: str) -> Path:
    """Return a folder's safetensors file, or the index of several files; in the most exact of its variants.

    Args:
        folder: Folder of the files.
        stem: Beginning of the files' names: `model` for transformers, `diffusion_pytorch_model` for diffusers.

    Raises:
        ValueError: There is no such file.
    """
    for variant in _VARIANTS:
        single = ".".join(filter(None, (stem, variant, "safetensors")))
        index = ".".join(filter(None, (stem, "safetensors.index", variant, "json")))
        for path in (folder / single, folder / index):
            if path.is_file():
                return path
    hint = ""
    if folder.is_dir() and any(folder.glob("*.bin")):
        hint = "; *.bin files are not read, since they can run code: use the model's safetensors files instead"
    raise ValueError(f"weights: there is no {stem}.safetensors and no {stem}.safetensors.index.json in {folder}{hint}")
