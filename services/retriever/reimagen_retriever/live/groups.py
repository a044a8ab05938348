"""Check incoming pairs and gather them into groups; each group is one commit."""

from collections.abc import Callable, Iterable, Iterator

from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.live.writer import Put

# Limits of a group: small enough for memory, large enough to share the cost of a commit.
_GROUP_PAIRS = 256
_GROUP_BYTES = 16 * 1024 * 1024
_REPORTED = 1_000


class Rejections:
    """The rejected pairs: their number, and the first of them.

    Args:
        report: Callback for each of the first rejections.
    """

    def __init__(self, report: Callable[[Rejected], None] = lambda _: None) -> None:
        self.first: list[Rejected] = []
        self.count = 0
        self._report = report

    def add(self, rejected: Rejected) -> None:
        """Count a rejection, and report it unless there were many before."""
        self.count += 1
        if len(self.first) < _REPORTED:
            self.first.append(rejected)
            self._report(rejected)


def checked_groups(entries: Iterable[SourcePair | Rejected], rejections: Rejections) -> Iterator[list[Put]]:
    """Yield the valid entries in groups; add the others to `rejections`."""
    group: list[Put] = []
    size = 0
    seen: set[str] = set()
    for entry in entries:
        if isinstance(entry, Rejected):
            rejections.add(entry)
            continue
        try:
            pair, facts = checked_pair(entry)
            if pair.id in seen:
                raise RejectedError("duplicate id", pair.id)
        except RejectedError as error:
            rejections.add(Rejected(entry.location, error.reason, error.detail))
            continue
        seen.add(pair.id)
        group.append(Put(pair, facts))
        size += len(pair.image)
        if len(group) >= _GROUP_PAIRS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
