"""From a cascade's configuration to its text encoder."""

from pathlib import Path

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.text import MiniLmText
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from reimagen_generator.text.minilm import TOKENIZER_FILE, load_minilm, minilm_files
from reimagen_generator.text.t5_encoder import load_t5_text_encoder, t5_files


def load_text_encoder(config: CascadeConfig, folder: Path | None) -> TextEncoder:
    """The encoder that a cascade's configuration names.

    Args:
        config: the cascade's.
        folder: where a network's files are: the model's own folder, or one that holds `text_encoder` (and `tokenizer`,
            for T5), as DeepFloyd IF's do and as a cascade's folder may. MiniLM is also found where it is installed.

    Raises:
        ValueError: there are no such files, one is damaged, or the encoder is not as wide as the networks expect.
    """
    encoder = config.text_encoder
    if encoder == "hashed-ngrams":
        check_width(config, HashedNgramEncoder.channels)
        return HashedNgramEncoder()
    if isinstance(encoder, MiniLmText):
        found = minilm_files(folder)
        check_width(config, found.config.hidden_size)
        return load_minilm(found, encoder.length)
    files = t5_files(_t5_folder(config, folder))
    check_width(config, files.config.d_model)
    return load_t5_text_encoder(files, encoder.length)


def text_encoder_files(config: CascadeConfig, folder: Path | None) -> list[Path]:
    """The files that determine a network's embeddings; none for hashed n-grams.

    Raises:
        ValueError: they are not there.
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
    """The most tokens of a text."""
    encoder = config.text_encoder
    return HashedNgramEncoder.length if encoder == "hashed-ngrams" else encoder.length


def check_width(config: CascadeConfig, channels: int) -> None:
    """Refuse an encoder of another width than the networks expect.

    Raises:
        ValueError: it is of another width.
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
        raise ValueError(f"text_encoder: {config.name} reads its texts with a T5 v1.1; name the folder of its files")
    return folder
