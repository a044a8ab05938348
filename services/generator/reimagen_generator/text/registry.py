"""The text encoders by name."""

from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder

_ENCODERS: dict[str, type[TextEncoder]] = {"hashed-ngrams": HashedNgramEncoder}


def load_text_encoder(name: str) -> TextEncoder:
    """The encoder that a cascade's configuration names.

    Raises:
        ValueError: no encoder has that name.
    """
    if name not in _ENCODERS:
        raise ValueError(f"text_encoder: {name!r} is unknown; known are {', '.join(sorted(_ENCODERS))}")
    return _ENCODERS[name]()
