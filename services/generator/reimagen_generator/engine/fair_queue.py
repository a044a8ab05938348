"""Fair sharing of one resource between flows, with the shortest work first.

A flow is a path, such as (priority, caller). Each child of a node gets an equal (or weighted) share of the resource,
however much work the others queue. This is fair queuing by virtual time: each child counts the resource that it has
used, over its weight. A child that was idle starts level with the child that has used the least: it can neither save up
a share nor be starved.

- Groups of flows, such as priorities, are served in turns: the one that has used the least is next (start-time fair
  queuing; Goyal, Vin and Cheng, 1996).
- Flows of a group, such as callers, are served in the order in which their first items would be finished if they shared
  the resource equally at every moment (weighted fair queuing; Demers, Keshav and Shenker, 1989). No item is finished
  later than with equal shares, apart from the last job before, and short ones are finished much earlier (Friedman and
  Henderson, "Fairness and efficiency in web server protocols", 2003).
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Path = Sequence[Hashable]


@dataclass
class _Node(Generic[Item]):
    """A flow or a group of flows."""

    used: float = 0.0
    """Virtual time: the resource used, over the weight."""
    children: dict[Hashable, "_Node[Item]"] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    @property
    def active(self) -> bool:
        return bool(self.items) or any(child.active for child in self.children.values())

    @property
    def least_used(self) -> float:
        """The least that an active child has used."""
        return min((child.used for child in self.children.values() if child.active), default=0.0)


class FairQueue(Generic[Item]):
    """A queue of items that belong to flows. It is not thread-safe."""

    def __init__(
        self,
        rank: Callable[[Item], float],
        length: Callable[[Item], float],
        weights: Mapping[Any, float] | None = None,
    ) -> None:
        """Create an empty queue.

        Args:
            rank: The rank of an item among those of its flow. The lowest is served first, and of equal ones the first
                that was added. It may change.
            length: The amount of the resource until an item is finished, with those of its flow that are finished with
                it. It may change.
            weights: Weights of flows of the first level, such as priorities; others have weight 1.
        """
        self._rank = rank
        self._length = length
        self._weights: Mapping[Any, float] = weights or {}
        self._root: _Node[Item] = _Node()

    def add(self, path: Path, item: Item) -> None:
        """Add an item to its flow."""
        node = self._root
        for name in path:
            child = node.children.setdefault(name, _Node())
            if not child.active:
                child.used = max(child.used, node.least_used)
            node = child
        node.items.append(item)

    def remove(self, path: Path, item: Item) -> None:
        """Remove an item from its flow."""
        node = self._root
        for name in path:
            node = node.children[name]
        node.items.remove(item)
        self._forget(self._root)

    def in_order(self) -> Iterator[Item]:
        """Yield all items, those to serve first at the beginning: by flow, and within a flow by rank."""
        return self._in_order(self._root)

    def charge(self, path: Path, amount: float) -> None:
        """Count an amount of the resource as used by a flow that has items."""
        weight = self._weights.get(path[0], 1.0)
        node = self._root
        for name in path:
            node = node.children[name]
            node.used += amount / weight
            weight = 1.0

    def _in_order(self, node: _Node[Item]) -> Iterator[Item]:
        yield from sorted(node.items, key=self._rank)
        for child in sorted(node.children.values(), key=self._virtual_time):
            yield from self._in_order(child)

    def _virtual_time(self, node: _Node[Item]) -> float:
        """Return when a flow's first item would be finished with equal shares, or when a group was served last."""
        return node.used + (self._length(min(node.items, key=self._rank)) if node.items else 0.0)

    def _forget(self, node: _Node[Item]) -> None:
        """Drop idle flows that have used no more than their share: they would begin again level with the others."""
        least = node.least_used
        competing = any(child.active for child in node.children.values())
        for name, child in list(node.children.items()):
            self._forget(child)
            if not child.active and (not competing or child.used <= least):
                del node.children[name]
