"""Mask API keys, and passwords and keys in URLs, before they appear in logs, errors and other output."""

import re
from typing import Final

_MASK: Final = "***"

# User and password before the host of a URL. A password may contain an unescaped slash, so a colon begins a password
# unless a port and a path follow.
_USER: Final = re.compile(r"(?<=://)(?:[^\s/?#\"'<>]*|[^\s/@:\"'<>]*:(?!\d{1,5}/)[^\s\"'<>]+)@")
_PARAMETER: Final = re.compile(
    r"(?<=[?&;])((?:[\w.-]*(?:password|passwd|secret|token|signature|credential|api[_-]?key|access[_-]?key(?:[_-]?id)?)"
    r"|pwd|sig|key)=)[^&;#\s\"'<>]+",
    re.IGNORECASE,
)
# The service's own keys, see `reimagen_common.access.keys`. Their public id stays readable.
_KEY: Final = re.compile(r"(?<=reimagen_)([a-z0-9]{8}_)[A-Za-z0-9]{20,}")


def masked(text: str) -> str:
    """Return the text with the service's API keys, and user, password and secret parameters of every URL, masked."""
    if "reimagen_" in text:
        text = _KEY.sub(rf"\1{_MASK}", text)
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\1{_MASK}", _USER.sub(f"{_MASK}@", text))
