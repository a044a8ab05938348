"""The maximum size of a request body."""

import math
from typing import Final

from reimagen_generator.generation.request import NEIGHBORS
from reimagen_generator.generation.request_parts import REFERENCE_BYTES

_MIB: Final = 1024 * 1024
# Space for the rest of a body: a prompt and captions, with up to twelve bytes of escapes per character.
_REST_BYTES: Final = 2 * _MIB
BODY_BYTES: Final = (NEIGHBORS * math.ceil(REFERENCE_BYTES / 3) * 4 + _REST_BYTES) // _MIB * _MIB
"""Maximum size of a body in bytes: enough for the maximum number of references of maximum size, in base64."""

PAIRS_BYTES: Final = 64 * _MIB
"""Maximum size in bytes of a body of pairs for the knowledge base, as in the retriever."""
