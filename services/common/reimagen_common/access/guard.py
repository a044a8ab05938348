"""The guard of a service: its keys, and the checks of each request before any work is done for it."""

from collections.abc import Sequence
from typing import Final, Literal

from reimagen_common.access.caller import ANONYMOUS, Caller
from reimagen_common.access.key_file import KeyFile
from reimagen_common.access.keys import Key, id_of
from reimagen_common.access.limits import IMAGES, REQUESTS, Counters, LocalCounters, take
from reimagen_common.access.rights import Right
from reimagen_common.errors import PermissionDenied, Unauthenticated

_SCHEME: Final = "bearer"
_ADVICE: Final = "send one as `Authorization: Bearer KEY`; the operator makes keys with `reimagen-generator keys add`"


class Guard:
    """The checks of keys, rights and limits. Without a key file, every caller is `ANONYMOUS` and may do everything."""

    def __init__(self, keys: KeyFile | None = None, counters: Counters | None = None) -> None:
        """Create the guard of a service.

        Args:
            keys: The keys, or None if no keys are required.
            counters: What the keys have used. By default this process counts alone.
        """
        self._keys = keys
        self._counters = counters or LocalCounters()

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

    def has_rate_limit(self, caller: Caller) -> bool:
        """Return whether `take_request` has to be called for a caller's requests."""
        return self._limit(caller, "requests_per_minute") is not None

    def take_request(self, caller: Caller) -> None:
        """Count a request. Takes a tenth of a second if Redis hangs, so call it where waiting is allowed.

        Raises:
            LimitExceeded: The caller has used up its rate limit.
        """
        limit = self._limit(caller, "requests_per_minute")
        if limit is not None:
            take(self._counters, REQUESTS, caller.id, 1, limit)

    def take_images(self, caller: Caller, number: int) -> None:
        """Count images that are about to be generated. Takes a tenth of a second if Redis hangs.

        Raises:
            LimitExceeded: The caller has used up its quota.
        """
        limit = self._limit(caller, "images_per_day")
        if limit is not None:
            take(self._counters, IMAGES, caller.id, number, limit)

    def _limit(self, caller: Caller, name: Literal["requests_per_minute", "images_per_day"]) -> int | None:
        key = self._keys.get(caller.id) if self._keys else None
        found: int | None = getattr(key, name, None)
        return found

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
