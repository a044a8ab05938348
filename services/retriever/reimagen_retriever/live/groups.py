"""Pairs as they come in, checked and gathered into groups that one commit takes."""

from collections.abc import Callable, Iterable, Iterator

from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.live.writer import Put

# So few pairs and bytes wait in memory; so many share the cost of a commit.
_GROUP_PAIRS = 256
_GROUP_BYTES = 16 * 1024 * 1024
_TOLD = 1_000


class Rejections:
    """What could not be taken: the first of them, and how many."""

    def __init__(self, tell: Callable[[Rejected], None] = lambda _: None) -> None:
        self.first: list[Rejected] = []
        self.count = 0
        self._tell = tell

    def add(self, rejected: Rejected) -> None:
        """Counts one, and tells of it at once."""
        self.count += 1
        if len(self.first) < _TOLD:
            self.first.append(rejected)
            self._tell(rejected)


def checked_groups(entries: Iterable[SourcePair | Rejected], rejections: Rejections) -> Iterator[list[Put]]:
    """The entries that can be taken, in groups; the others are added to `rejections`."""
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
