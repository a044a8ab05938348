"""Several hosts as one machine; each runs the same program on the same data."""

from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from reimagen_generator.settings import Hosts

Tree = TypeVar("Tree")


def join(hosts: Hosts) -> None:
    """Connect to the other hosts, if any are configured. This must precede any access to devices."""
    match hosts.coordinator:
        case None:
            return
        case "auto":
            jax.distributed.initialize()
        case address:
            jax.distributed.initialize(address, hosts.processes, hosts.process)


def is_primary() -> bool:
    """Return whether this host is the one that writes files and reports."""
    return jax.process_index() == 0


def all_gather(tree: Tree) -> Tree:
    """Return each array complete on every host; an array that was spread over hosts becomes a NumPy array."""

    def whole(leaf: Any) -> Any:
        if leaf.is_fully_addressable:
            return leaf
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    gathered_tree: Tree = jax.tree.map(whole, tree)
    return gathered_tree
