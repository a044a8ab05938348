"""Filters that restrict a search to some pairs, without changing their scores."""

from dataclasses import dataclass, replace
from typing import Self

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import StoredPair

MAXIMUM_VALUES = 64
MAXIMUM_EXCLUDED = 500
MAXIMUM_SIDE = 100_000
LONGEST_VALUE = 2_000
# In bytes of UTF-8: Lucene rejects longer prefixes.
LONGEST_SOURCE = 1_000


@dataclass(frozen=True)
class Filters:
    """Conditions on pairs, all of which must hold. By default all pairs pass."""

    licenses: tuple[str, ...] = ()
    """Allowed licenses, compared exactly; '' is an unknown license. Empty: all licenses."""
    sources: tuple[str, ...] = ()
    """Allowed prefixes of the source, such as `https://example.org/`. Empty: all sources."""
    minimum_side: int = 0
    """Minimum length of the shorter side of the image, in pixels."""
    safe_only: bool = False
    """Whether to leave out pairs that their source marks as unsafe for work. Unmarked pairs pass."""
    exclude_ids: tuple[str, ...] = ()
    """Ids to leave out."""
    keep_duplicates: bool = False
    """Whether to return all near-duplicates of an image (`StoredPair.duplicate_of`), not only the best one."""

    def check(self, within: str = "") -> None:
        """Check all fields against their limits.

        Args:
            within: The prefix of the field names in errors, such as `searches[0].`.

        Raises:
            InvalidArgument: A field is out of range. The error names the field.
        """
        limits = (("licenses", MAXIMUM_VALUES), ("sources", MAXIMUM_VALUES), ("exclude_ids", MAXIMUM_EXCLUDED))
        for name, maximum in limits:
            values = getattr(self, name)
            if len(values) > maximum:
                raise InvalidArgument(
                    f"must have at most {maximum} values, got {len(values):,}", field=f"{within}{name}"
                )
            if any(len(value) > LONGEST_VALUE for value in values):
                raise InvalidArgument(f"must have at most {LONGEST_VALUE:,} characters each", field=f"{within}{name}")
        if any(len(source.encode("utf-8", "surrogatepass")) > LONGEST_SOURCE for source in self.sources):
            raise InvalidArgument(f"must have at most {LONGEST_SOURCE:,} bytes of UTF-8 each", field=f"{within}sources")
        if "" in self.sources:
            raise InvalidArgument(
                "must not contain an empty string: every source begins with it", field=f"{within}sources"
            )
        if not 0 <= self.minimum_side <= MAXIMUM_SIDE:
            raise InvalidArgument(
                f"must be 0 to {MAXIMUM_SIDE:,}, got {self.minimum_side:,}", field=f"{within}minimum_side"
            )

    def canonical(self) -> Self:
        """Return a normal form, which is equal for filters with the same meaning."""
        licenses, sources, excluded = (
            tuple(sorted(set(values))) for values in (self.licenses, self.sources, self.exclude_ids)
        )
        return replace(self, licenses=licenses, sources=sources, exclude_ids=excluded)

    def group(self, pair: StoredPair) -> str:
        """Return the key of the group of which an answer contains only one pair."""
        return pair.id if self.keep_duplicates else pair.duplicate_of or pair.id


NO_FILTER = Filters()
