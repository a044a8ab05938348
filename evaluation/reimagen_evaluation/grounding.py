"""Which pairs each image of an evaluation is grounded on."""

from collections.abc import Mapping, Sequence

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.setting import NONE, REFERENCES, Setting
from reimagen_generator.generation.request import NEIGHBORS
from reimagen_generator.generation.retriever_client import Neighbor, RetrieverClient

# The client allows a search a quarter of what remains of a call.
_SECONDS = 40.0


class Grounding:
    """Finds the neighbors of a benchmark's items."""

    def __init__(self, items: Sequence[Item], retrievers: Mapping[str, RetrieverClient]) -> None:
        """Take what neighbors are found by.

        Args:
            items: all of the benchmark: unrelated neighbors are those of another one.
            retrievers: of the knowledge bases that settings name.
        """
        self._items = items
        self._places = {item.key: place for place, item in enumerate(items)}
        self._retrievers = retrievers

    def check(self, setting: Setting) -> None:
        """Return if the setting's neighbors can be found.

        Raises:
            InvalidArgument: no retriever was given for its knowledge base.
        """
        if setting.neighbors not in (NONE, REFERENCES, *self._retrievers):
            raise InvalidArgument(
                f"no retriever of {setting.neighbors!r} was given; start one and name its address as "
                f"--retriever {setting.neighbors}=127.0.0.1:50051",
                field="neighbors",
            )

    def neighbors(self, item: Item, setting: Setting, k: int) -> list[Neighbor]:
        """The item's neighbors, best first, k at most; fewer where no more are found.

        Raises:
            ReimagenError: the retriever does not answer, or refuses.
            OSError: a reference cannot be read.
        """
        found = self._found(item, setting, k)
        if not setting.unrelated:
            return found
        kept = found[: max(0, k - setting.unrelated)]
        return [*kept, *self._found(self._unrelated(item), setting, setting.unrelated)]

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
        """Another item, half the benchmark away, that shows none of this one's entities."""
        middle = self._places[item.key] + len(self._items) // 2
        for step in range(len(self._items)):
            other = self._items[(middle + step) % len(self._items)]
            if not set(other.entities) & set(item.entities):
                return other
        raise InvalidArgument("every item shows the same entity, so none is unrelated", field="unrelated")
