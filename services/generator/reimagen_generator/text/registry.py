"""From a cascade's configuration to its text encoder."""

from pathlib import Path

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from reimagen_generator.text.t5_encoder import load_t5_text_encoder, t5_files


def load_text_encoder(config: CascadeConfig, folder: Path | None) -> TextEncoder:
    """The encoder that a cascade's configuration names.

    Args:
        config: the cascade's.
        folder: where T5's files are: the model's own folder, or one that holds `text_encoder` and `tokenizer`, as
            DeepFloyd IF's do and as a cascade's folder may.

    Raises:
        ValueError: there are no such files, one is damaged, or the encoder is not as wide as the networks expect.
    """
    if config.text_encoder == "hashed-ngrams":
        _check_width(config, HashedNgramEncoder.channels)
        return HashedNgramEncoder()
    if folder is None:
        raise ValueError(f"text_encoder: {config.name} reads its texts with a T5 v1.1; name the folder of its files")
    files = t5_files(folder)
    _check_width(config, files.config.d_model)
    return load_t5_text_encoder(files, config.text_encoder.length)


def _check_width(config: CascadeConfig, channels: int) -> None:
    for stage in config.stages:
        if stage.network.text_channels != channels:
            raise ValueError(
                f"text_encoder: gives {channels} channels, but stage {stage.size} of {config.name} expects "
                f"text_channels of {stage.network.text_channels}"
            )
