"""Construction of a cascade's text encoder from its configuration."""

from pathlib import Path

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.text import MiniLmText
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from reimagen_generator.text.minilm import TOKENIZER_FILE, load_minilm, minilm_files
from reimagen_generator.text.t5_encoder import load_t5_text_encoder, t5_files


def load_text_encoder(config: CascadeConfig, folder: Path | None) -> TextEncoder:
    """Return the text encoder of a cascade's configuration.

    Args:
        config: The cascade's configuration.
        folder: Folder of a network's files: the model's own folder, or one that contains `text_encoder` (and
            `tokenizer`, for T5), as those of DeepFloyd IF do and a cascade's may. MiniLM is also found in its
            installed package.

    Raises:
        ValueError: The files are missing or damaged, or the encoder's width is not that of the networks.
    """
    encoder = config.text_encoder
    if encoder == "hashed-ngrams":
        check_width(config, HashedNgramEncoder.channels)
        return HashedNgramEncoder()
    if isinstance(encoder, MiniLmText):
        minilm = minilm_files(folder)
        check_width(config, minilm.config.hidden_size)
        return load_minilm(minilm, encoder.length)
    files = t5_files(_t5_folder(config, folder))
    check_width(config, files.config.d_model)
    return load_t5_text_encoder(files, encoder.length)


def text_encoder_files(config: CascadeConfig, folder: Path | None) -> list[Path]:
    """Return the files that determine a network's embeddings; an empty list for hashed n-grams.

    Raises:
        ValueError: The files are missing.
    """
    if config.text_encoder == "hashed-ngrams":
        return []
    if isinstance(config.text_encoder, MiniLmText):
        model = minilm_files(folder).folder
        pieces = model / TOKENIZER_FILE
    else:
        files = t5_files(_t5_folder(config, folder))
        model, pieces = files.model, files.pieces
    return [model / "config.json", *sorted(model.glob("*.safetensors")), pieces]


def text_length(config: CascadeConfig) -> int:
    """Return the maximum number of tokens of a text."""
    encoder = config.text_encoder
    return HashedNgramEncoder.length if encoder == "hashed-ngrams" else encoder.length


def check_width(config: CascadeConfig, channels: int) -> None:
    """Raise an error if the encoder's width is not the one that the networks expect.

    Raises:
        ValueError: The widths differ.
    """
    widths = {f"stage {stage.size}": stage.network.text_channels for stage in config.stages}
    if config.placement is not None:
        widths["the placement network"] = config.placement.text_channels
    for part, width in widths.items():
        if width != channels:
            raise ValueError(
                f"text_encoder: gives {channels} channels, but {part} of {config.name} expects text_channels of {width}"
            )


def _t5_folder(config: CascadeConfig, folder: Path | None) -> Path:
    if folder is None:
        raise ValueError(
            f"text_encoder: {config.name} has a T5 v1.1 as text encoder; set text_encoder to the folder of its files"
        )
    return folder
