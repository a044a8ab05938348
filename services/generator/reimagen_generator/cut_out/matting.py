"""The opacity of the object in an image: by its transparency, its plain ground, or U²-Netp.

U²-Netp (arXiv 2005.09007) finds the salient object of a photograph. Its weights, stored in half precision by
`python -m tools.cut_out_network`, are a file of this package.
"""

from functools import cache
from importlib.resources import files
from threading import Lock
from typing import Final, Protocol, cast

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

_Image = UInt8[np.ndarray, "height width 3"]
_Matte = Float[np.ndarray, "height width"]

_NETWORK_SIDE: Final = 320
_MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION: Final = np.array([0.229, 0.224, 0.225], np.float32)
_SURE: Final = (0.15, 0.85)
"""Opacities of the network that count as background and as object; those between are stretched."""
_LEAST_TRANSPARENT: Final = 0.02
"""Least share of transparent pixels for which an image's own transparency counts."""
_PLAIN: Final = 10
"""Largest difference of a channel between a plain ground and its color."""
_PLAIN_BORDER: Final = 0.95
"""Least share of the border's pixels that have the color of a plain ground."""
_LEAST_PART: Final = 0.1
"""Least size of a part of the object, as a share of the largest part; smaller parts are dropped."""

_RUNNING: Final = Lock()
"""Held while the network runs, so that cut-outs take a single core from drawing."""


class _Session(Protocol):
    def run(self, outputs: list[str] | None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]: ...


def matte_of(image: _Image, alpha: UInt8[np.ndarray, "height width"] | None) -> _Matte:
    """Return the opacity of the object in each pixel, in [0, 1]; 0 everywhere if no object is found.

    Args:
        image: The image.
        alpha: Its own opacity, if its file has any.
    """
    if alpha is not None and (alpha < 128).mean() >= _LEAST_TRANSPARENT:
        return (alpha / 255).astype(np.float32)
    ground = _plain_ground(image)
    return _largest_parts(_network_matte(image) if ground is None else _without(image, ground))


def _plain_ground(image: _Image) -> Float[np.ndarray, " channels"] | None:
    """Return the color of the image's border if the border is plain."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).astype(np.float32)
    color: Float[np.ndarray, " channels"] = np.median(border, axis=0)
    near = (np.abs(border - color).max(axis=1) <= _PLAIN).mean()
    return color if near >= _PLAIN_BORDER else None


def _without(image: _Image, ground: Float[np.ndarray, " channels"]) -> _Matte:
    """Return the opacity of everything but the ground, which is connected to the border."""
    distance = np.abs(image.astype(np.float32) - ground).max(axis=2)
    labels, _ = ndimage.label(np.pad(distance <= _PLAIN, 1, constant_values=True))
    ground_pixels = (labels == labels[0, 0])[1:-1, 1:-1]
    # Pixels at the edge of the ground are blends of ground and object.
    edge = ndimage.binary_dilation(ground_pixels) & ~ground_pixels
    inner = ndimage.grey_dilation(np.where(ground_pixels, 0, distance), size=3)
    blend = np.clip(distance / np.maximum(inner, 1.0), 0.0, 1.0)
    matte: _Matte = np.where(ground_pixels, 0.0, np.where(edge, blend, 1.0)).astype(np.float32)
    return matte


def _network_matte(image: _Image) -> _Matte:
    height, width, _ = image.shape
    square = Image.fromarray(image).resize((_NETWORK_SIDE, _NETWORK_SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(square, np.float32)
    pixels = (pixels / max(pixels.max(), 1.0) - _MEAN) / _DEVIATION
    inputs = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
    with _RUNNING:
        saliency = _session().run(None, {"input.1": inputs})[0][0, 0]
    low, high = _SURE
    stretched = np.clip((saliency - low) / (high - low), 0.0, 1.0)
    large = Image.fromarray(stretched.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    matte: _Matte = np.clip(np.asarray(large), 0.0, 1.0)
    return matte


def _largest_parts(matte: _Matte) -> _Matte:
    """Return the matte without its small parts."""
    labels, count = ndimage.label(matte > 0)
    if count <= 1:
        return matte
    sizes = ndimage.sum_labels(matte, labels, range(count + 1))
    sizes[0] = 0.0
    kept: Bool[np.ndarray, " labels"] = sizes >= _LEAST_PART * sizes.max()
    return np.where(kept[labels], matte, 0.0).astype(np.float32)


@cache
def _session() -> _Session:
    # Imported here, because most services never cut out anything.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = (files(__package__) / "u2netp.onnx").read_bytes()
    return cast(_Session, onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
