"""Fair sharing of one resource between flows, in levels: start-time fair queuing.

A flow is a path, such as (priority, caller, size). At each level, the child that has used the least of the resource for
its weight is served next, so each child of a node gets an equal (or weighted) share, however much work the others
queue. A child that was idle starts level with the others: it can neither save up a share nor be starved.

This is start-time fair queuing (Goyal, Vin and Cheng, 1996) in a hierarchy. Unlike deficit round robin, it has no
quantum to choose, and a new flow waits for at most one job of each other flow.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Path = Sequence[Hashable]


@dataclass
class _Node(Generic[Item]):
    """A flow or a group of flows."""

    used: float = 0.0
    """Virtual time: the resource used, over the weight."""
    clock: float = 0.0
    """The virtual time of the child that was served last."""
    children: dict[Hashable, "_Node[Item]"] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    @property
    def active(self) -> bool:
        return bool(self.items) or any(child.active for child in self.children.values())

    def in_order(self) -> Iterator[Item]:
        yield from self.items
        for child in sorted(self.children.values(), key=lambda child: child.used):
            yield from child.in_order()


class FairQueue(Generic[Item]):
    """A queue of items that belong to flows. It is not thread-safe."""

    def __init__(self, weights: Mapping[Any, float] | None = None) -> None:
        """Create an empty queue.

        Args:
            weights: Weights of flows of the first level, such as priorities; others have weight 1.
        """
        self._weights: Mapping[Any, float] = weights or {}
        self._root: _Node[Item] = _Node()

    def add(self, path: Path, item: Item) -> None:
        """Append an item to its flow."""
        node = self._root
        for name in path:
            child = node.children.setdefault(name, _Node())
            if not child.active:
                child.used = max(child.used, node.clock)
            node = child
        node.items.append(item)

    def remove(self, path: Path, item: Item) -> None:
        """Remove an item from its flow."""
        self._nodes(path)[-1].items.remove(item)
        self._forget(self._root)

    def in_order(self) -> Iterator[Item]:
        """Yield all items, those to serve first at the beginning: by flow, and within a flow by arrival."""
        return self._root.in_order()

    def charge(self, path: Path, amount: float) -> None:
        """Count an amount of the resource as used by a flow that has items."""
        weight = self._weights.get(path[0], 1.0)
        node = self._root
        for name in path:
            child = node.children[name]
            node.clock = max(node.clock, child.used)
            child.used += amount / weight
            node, weight = child, 1.0

    def _nodes(self, path: Path) -> list[_Node[Item]]:
        nodes = [self._root]
        for name in path:
            nodes.append(nodes[-1].children[name])
        return nodes

    def _forget(self, node: _Node[Item]) -> None:
        """Drop idle flows that have used no more than their share: they would begin again level with the others."""
        for name, child in list(node.children.items()):
            self._forget(child)
            if not child.active and child.used <= node.clock:
                del node.children[name]
        if not any(child.active for child in node.children.values()):
            # Nobody competes, so that nothing need be remembered.
            node.children.clear()
            node.clock = 0.0
