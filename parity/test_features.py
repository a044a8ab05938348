"""Feature networks compared with those of transformers and torch-fidelity, which write the random weights."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from parity.compare import relative_error
from parity.fidelity import torch_fidelity
from reimagen_evaluation.features.clip import ClipFeatures
from reimagen_evaluation.features.clip_tokenizer import ClipTokenizer
from reimagen_evaluation.features.dino import DinoFeatures
from reimagen_evaluation.features.inception import InceptionFeatures
from reimagen_evaluation.features.preprocessing import Preprocessing

SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
VISION = {"image_size": 32, "patch_size": 8}
TEXTS = ["a fox in the snow", "it's the dog's 42nd birthday, isn't it?!", "", "Käse  ½ ２ naïve\t日本 🐼", "word " * 40]


def randomized(model: Any) -> Any:
    """Set random weights of a scale at which norms, biases, position embeddings and scales matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            matrix = parameter.ndim > 1
            parameter.normal_(std=math.prod(parameter.shape[1:]) ** -0.5 if matrix else 0.5).add_(0 if matrix else 0.7)
    return model.eval()


def images(height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)


def prepare(processor: Any, folder: Path, batch: np.ndarray) -> torch.Tensor:
    processor.save_pretrained(folder)
    return processor([Image.fromarray(image) for image in batch], return_tensors="pt")["pixel_values"]


@pytest.fixture(scope="module")
def clip_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a byte-level vocabulary and some merges, in the format of CLIP's files."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())

    merges = [
        "t h",
        "th e</w>",
        "f o",
        "fo x</w>",
        "i n</w>",
        "s n",
        "o w</w>",
        "sn ow</w>",
        "r d</w>",
        "w o",
        "' s</w>",
    ]
    pieces = [*letters, *(letter + "</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    return folder


def test_the_tokens_of_clip_equal_transformers(clip_tokens: Path, tmp_path: Path) -> None:
    reference = CLIPTokenizer.from_pretrained(clip_tokens)
    theirs = reference(TEXTS, padding="max_length", max_length=20, truncation=True, return_tensors="np")["input_ids"]
    ids, ends = ClipTokenizer.load(clip_tokens, 20)(TEXTS)
    np.testing.assert_array_equal(ids, theirs)
    assert (ids[np.arange(len(TEXTS)), ends] == ids.max()).all()
    reference.save_pretrained(tmp_path)  # tokenizer.json alone
    assert not (tmp_path / "vocab.json").exists()
    np.testing.assert_array_equal(ClipTokenizer.load(tmp_path, 20)(TEXTS)[0], theirs)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_clip_equals_transformers(clip_tokens: Path, tmp_path: Path, activation: str) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(clip_tokens)
    text = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 20, "hidden_act": activation}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = SIZES | VISION | {"hidden_act": activation, "num_attention_heads": 2}
    model = randomized(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    batch = images(45, 60)
    pixels = prepare(CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32), tmp_path, batch)
    tokens = tokenizer(TEXTS, padding="max_length", max_length=20, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = [model.get_image_features(pixels).pooler_output, model.get_text_features(**tokens).pooler_output]
    ours = ClipFeatures.load(tmp_path)
    assert relative_error(ours.features(batch), theirs[0].numpy()) <= 1e-4
    assert relative_error(ours.text_features(TEXTS), theirs[1].numpy()) <= 1e-4


def class_token(model: Any, pixels: torch.Tensor, **options: Any) -> Float[np.ndarray, "batch channels"]:
    with torch.no_grad():
        return np.asarray(model(pixels, **options).last_hidden_state[:, 0])


def test_dino_equals_transformers(tmp_path: Path) -> None:
    model = randomized(ViTModel(ViTConfig(**SIZES, **VISION)))
    model.save_pretrained(tmp_path)
    batch = images(45, 60)
    pixels = prepare(ViTImageProcessorPil(size={"height": 32, "width": 32}), tmp_path, batch)
    assert relative_error(DinoFeatures.load(tmp_path).features(batch), class_token(model, pixels)) <= 1e-4


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("side", [32, 48], ids=["its own places", "places between"])
def test_dinov2_equals_transformers(tmp_path: Path, gated: bool, side: int) -> None:
    sizes = {name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    model = randomized(Dinov2Model(Dinov2Config(**sizes, **VISION, use_swiglu_ffn=gated)))
    model.save_pretrained(tmp_path)
    batch = images(71, 64)
    pixels = prepare(BitImageProcessorPil(size={"shortest_edge": side + 8}, crop_size=side), tmp_path, batch)
    assert relative_error(DinoFeatures.load(tmp_path).features(batch), class_token(model, pixels)) <= 1e-4


@pytest.mark.parametrize("shape", [(40, 60), (64, 64), (33, 20)])
def test_preprocessed_images_equal_transformers(tmp_path: Path, shape: tuple[int, int]) -> None:
    batch = images(*shape)
    for processor in (
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32),
        BitImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}),
        BitImageProcessorPil(size={"shortest_edge": 24}, crop_size=32),
        ViTImageProcessorPil(size={"height": 30, "width": 30}),
    ):
        theirs = prepare(processor, tmp_path, batch).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(Preprocessing.load(tmp_path)(batch), theirs, atol=1e-5)


def test_inception_equals_torch_fidelitys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with torch-fidelity's extractor, which loads weights when it is created: an empty file, then random."""
    torch.save({}, tmp_path / "none.pth")
    with torch_fidelity() as library:
        kind = library.FeatureExtractorInceptionV3
        monkeypatch.setattr(kind, "load_state_dict", lambda self, state: None)
        model = randomized(kind("inception", ["2048"], str(tmp_path / "none.pth")))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.3, 2.0)
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "i.safetensors"
        )
        ours = InceptionFeatures.load(tmp_path / "i.safetensors")
        for batch in (images(32, 32), images(350, 301)):
            with torch.no_grad():
                (theirs,) = model(torch.tensor(batch).permute(0, 3, 1, 2))
            assert relative_error(ours.features(batch), theirs.numpy()) <= 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("layernorm.bias"), "lacks tensor layernorm.bias"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "has an unknown tensor extra"),
        (lambda tensors: tensors.update({"layernorm.bias": torch.zeros(2)}), r"layernorm.bias has shape \(2,\)"),
    ],
    ids=["missing", "unknown", "misshapen"],
)
def test_unfit_files_are_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    randomized(ViTModel(ViTConfig(**SIZES, **VISION))).save_pretrained(tmp_path)
    ViTImageProcessorPil().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        DinoFeatures.load(tmp_path)
