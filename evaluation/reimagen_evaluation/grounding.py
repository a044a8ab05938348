"""The search for the neighbors that each image of an evaluation is grounded on."""

from collections.abc import Mapping, Sequence

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.setting import NONE, REFERENCES, Setting
from reimagen_generator.generation.request import NEIGHBORS
from reimagen_generator.generation.retriever_client import Neighbor, RetrieverClient

# The client gives a search a quarter of the time that remains of a request.
_SECONDS = 40.0


class Grounding:
    """The source of neighbors for a benchmark's items."""

    def __init__(self, items: Sequence[Item], retrievers: Mapping[str, RetrieverClient]) -> None:
        """Set up the sources of neighbors.

        Args:
            items: all items of the benchmark; unrelated neighbors are those of another item.
            retrievers: clients of the knowledge bases that settings name, by name.
        """
        self._items = items
        self._indices = {item.key: index for index, item in enumerate(items)}
        self._retrievers = retrievers

    def check(self, setting: Setting) -> None:
        """Raise an error if the setting's source of neighbors is unknown.

        Raises:
            InvalidArgument: no retriever was given for its knowledge base.
        """
        if setting.neighbors not in (NONE, REFERENCES, *self._retrievers):
            raise InvalidArgument(
                f"no retriever for {setting.neighbors!r} was given; start one and give its address as "
                f"--retriever {setting.neighbors}=127.0.0.1:50051",
                field="neighbors",
            )

    def neighbors(self, item: Item, setting: Setting, k: int) -> list[Neighbor]:
        """Return at most k neighbors of the item, best first.

        Raises:
            ReimagenError: the retriever does not answer, or rejects the request.
            OSError: a reference cannot be read.
        """
        found = self._found(item, setting, k)
        if not setting.unrelated:
            return found
        relevant = found[: max(0, k - setting.unrelated)]
        return [*relevant, *self._found(self._unrelated(item), setting, setting.unrelated)]

    def _found(self, item: Item, setting: Setting, k: int) -> list[Neighbor]:
        if k == 0 or setting.neighbors == NONE:
            return []
        if setting.neighbors == REFERENCES:
            chosen = item.references[setting.skip : setting.skip + k]
            return [Neighbor(reference.path.read_bytes(), reference.caption) for reference in chosen]
        retriever = self._retrievers[setting.neighbors]
        found = retriever.search(
            item.prompt,
            k=min(setting.skip + k, NEIGHBORS),
            method=setting.method,
            per_entity=setting.per_entity,
            remaining=_SECONDS,
        )
        return list(found.neighbors[setting.skip :])

    def _unrelated(self, item: Item) -> Item:
        """Return another item, half the benchmark away, that shares no entity with this one."""
        middle = self._indices[item.key] + len(self._items) // 2
        for step in range(len(self._items)):
            other = self._items[(middle + step) % len(self._items)]
            if not set(other.entities) & set(item.entities):
                return other
        raise InvalidArgument("must be 0, since all items share an entity and none is unrelated", field="unrelated")
