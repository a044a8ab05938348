"""How large a request may be."""

import math
from typing import Final

from reimagen_generator.generation.request import NEIGHBORS, REFERENCE_BYTES

_MIB: Final = 1024 * 1024
# What is in a body beside references: a prompt, captions, each character of them perhaps twelve bytes of escapes.
_REST_BYTES: Final = 2 * _MIB
BODY_BYTES: Final = (NEIGHBORS * math.ceil(REFERENCE_BYTES / 3) * 4 + _REST_BYTES) // _MIB * _MIB
"""The most references, each as large as it may be, fit in base64."""
