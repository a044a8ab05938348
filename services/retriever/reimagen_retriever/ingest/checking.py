"""Check entries on all cores, in threads: decoding dominates a build's time, and Pillow releases the GIL for it."""

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from reimagen_retriever.ingest.filters import SourceFilters
from reimagen_retriever.knowledge_base.checks import checked_pair
from reimagen_retriever.knowledge_base.image import ImageFacts
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair

Checked = tuple[SourcePair, ImageFacts] | Rejected
_QUEUED_PER_CORE = 8


def checked(
    entries: Iterable[SourcePair | Rejected], filters: SourceFilters, cores: int = os.cpu_count() or 1
) -> Generator[Checked]:
    """Yield the entries in order, each as a checked pair with its image's facts, or as a rejection."""
    waiting = deque[Future[Checked]]()
    with ThreadPoolExecutor(cores, "check") as pool:
        try:
            for entry in entries:
                waiting.append(pool.submit(_check, entry, filters))
                if len(waiting) > cores * _QUEUED_PER_CORE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check(entry: SourcePair | Rejected, filters: SourceFilters) -> Checked:
    if isinstance(entry, Rejected):
        return entry
    try:
        filters.check(entry)
        pair, facts = checked_pair(entry)
        filters.check_image(facts)
    except RejectedError as error:
        return Rejected(entry.location, error.reason, error.detail)
    return pair, facts
