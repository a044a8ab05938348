"""Passwords and keys in addresses, kept out of logs, errors and whatever else is shown."""

import re
from typing import Final

_MASK: Final = "***"

# What stands before the host of an address. A password may hold a slash that its writer forgot to escape, so a colon
# begins one unless a port and a path follow.
_USER: Final = re.compile(r"(?<=://)(?:[^\s/?#\"'<>]*|[^\s/@:\"'<>]*:(?!\d{1,5}/)[^\s\"'<>]+)@")
_PARAMETER: Final = re.compile(
    r"(?<=[?&;])((?:[\w.-]*(?:password|passwd|secret|token|signature|credential|api[_-]?key|access[_-]?key(?:[_-]?id)?)"
    r"|pwd|sig|key)=)[^&;#\s\"'<>]+",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return the text with the user and password of every address in it, and parameters that are keys, replaced."""
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\1{_MASK}", _USER.sub(f"{_MASK}@", text))
