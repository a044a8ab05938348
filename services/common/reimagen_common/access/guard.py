"""The guard of a service: it knows its keys, and checks each request before any work is done for it."""

from collections.abc import Sequence
from typing import Final

from reimagen_common.access.caller import ANONYMOUS, Caller
from reimagen_common.access.key_file import KeyFile
from reimagen_common.access.keys import Key, id_of
from reimagen_common.access.rights import Right
from reimagen_common.errors import PermissionDenied, Unauthenticated

_SCHEME: Final = "bearer"
_ADVICE: Final = "send one as `Authorization: Bearer KEY`; the operator makes keys with `reimagen-generator keys add`"


class Guard:
    """The checks of keys and rights. Without a key file, every caller is `ANONYMOUS` and may do everything."""

    def __init__(self, keys: KeyFile | None = None) -> None:
        """Create the guard of a service with these keys."""
        self._keys = keys

    @property
    def requires_keys(self) -> bool:
        """Whether requests need a key."""
        return self._keys is not None

    def identify(self, authorization: Sequence[str]) -> Caller:
        """Return the caller that the values of a request's `Authorization` headers name.

        Raises:
            Unauthenticated: Keys are required, and there is no valid one.
        """
        if self._keys is None:
            return ANONYMOUS
        key = self._find(self._keys, authorization)
        return Caller(id=key.id, rights=key.rights)

    def _find(self, keys: KeyFile, authorization: Sequence[str]) -> Key:
        if not authorization:
            raise Unauthenticated(f"this service requires an API key; {_ADVICE}")
        scheme, _, given = authorization[0].strip().partition(" ")
        given = given.strip()
        identifier = id_of(given)
        if len(authorization) > 1 or scheme.lower() != _SCHEME or identifier is None:
            raise Unauthenticated(f"the request has no well-formed API key; {_ADVICE}")
        key = keys.get(identifier)
        # The same answer for an unknown id and a wrong secret.
        if key is None or not key.matches(given):
            raise Unauthenticated(f"the API key {identifier} is unknown or has been revoked")
        if key.has_expired():
            raise Unauthenticated(f"the API key {identifier} has expired; ask the operator for a new one")
        return key


def require(caller: Caller, right: Right) -> None:
    """Check that a caller has a right.

    Raises:
        PermissionDenied: It does not.
    """
    if right not in caller.rights:
        rights = ", ".join(sorted(caller.rights))
        raise PermissionDenied(f"the API key {caller.id} lacks the right {right.value!r}; it has: {rights}")
