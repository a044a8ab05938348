"""API keys: what is stored of them, how they are made, and how they are compared.

A key is `reimagen_<id>_<secret>`, which secret scanners can recognize: `reimagen_[a-z0-9]{8}_[A-Za-z0-9]{43}`. The id
is public and appears in logs. The secret has 256 bits of entropy, so one SHA-256 protects it as well as a slow password
hash would: nobody can try that many secrets.
"""

import hashlib
import hmac
import re
import secrets
import string
from datetime import UTC, datetime
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_serializer

from reimagen_common.access.rights import Right

PREFIX: Final = "reimagen_"
ID_PATTERN: Final = r"[a-z0-9]{8}"
_ID_LETTERS: Final = string.ascii_lowercase + string.digits
_SECRET_LETTERS: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 8
# 43 of 62 letters have 256 bits.
_SECRET_LENGTH: Final = 43
_KEY: Final = re.compile(rf"{PREFIX}({ID_PATTERN})_[A-Za-z0-9]{{{_SECRET_LENGTH}}}", re.ASCII)


class Key(BaseModel):
    """What is stored of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=f"^{ID_PATTERN}$", description="Public id, the part of the key after `reimagen_`.")
    name: str = Field(pattern=r"^[^\x00-\x1f\x7f]{1,100}$", description="Name for people, such as that of the client.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the whole key, in hexadecimal digits.")
    rights: frozenset[Right] = Field(min_length=1, description="What the key allows: read, generate, write.")
    requests_per_minute: int | None = Field(None, ge=1, description="Rate limit; null means none.")
    images_per_day: int | None = Field(None, ge=1, description="Quota of images; null means none.")
    created: AwareDatetime = Field(description="Time when the key was made.")
    expires: AwareDatetime | None = Field(None, description="Time after which the key is refused; null means never.")

    @field_serializer("rights")
    def _in_order(self, rights: frozenset[Right]) -> list[Right]:
        return sorted(rights)

    def matches(self, key: str) -> bool:
        """Return whether this is the stored form of a key. Takes the same time for every wrong key."""
        return hmac.compare_digest(self.sha256, _hashed(key))

    def has_expired(self) -> bool:
        """Return whether the key is refused because of its age."""
        return self.expires is not None and self.expires <= datetime.now(UTC)


class KeyRing(BaseModel):
    """The content of a key file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(1, ge=1, le=1, description="Version of the format.")
    keys: tuple[Key, ...] = Field((), description="All keys, oldest first.")


def make_key(
    name: str,
    rights: frozenset[Right],
    *,
    requests_per_minute: int | None = None,
    images_per_day: int | None = None,
    expires: datetime | None = None,
) -> tuple[str, Key]:
    """Return a new key, which is not stored anywhere, and its stored form.

    Raises:
        ValidationError: An argument is invalid.
    """
    identifier = _random(_ID_LETTERS, _ID_LENGTH)
    key = f"{PREFIX}{identifier}_{_random(_SECRET_LETTERS, _SECRET_LENGTH)}"
    stored = Key(
        id=identifier,
        name=name,
        sha256=_hashed(key),
        rights=rights,
        requests_per_minute=requests_per_minute,
        images_per_day=images_per_day,
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
    )
    return key, stored


def id_of(key: str) -> str | None:
    """Return the public id of a key, or None if the text does not have the form of a key."""
    found = _KEY.fullmatch(key)
    return found[1] if found else None


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _random(letters: str, length: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(length))
