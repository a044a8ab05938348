"""Several hosts as one machine, each running the same program on the same data."""

from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from reimagen_generator.settings import Hosts

Tree = TypeVar("Tree")


def join(hosts: Hosts) -> None:
    """Waits for the other hosts, if there are to be any; before anything else asks for a device."""
    match hosts.coordinator:
        case None:
            return
        case "auto":
            jax.distributed.initialize()
        case address:
            jax.distributed.initialize(address, hosts.processes, hosts.process)


def is_primary() -> bool:
    """Whether this host is the one that writes and tells."""
    return jax.process_index() == 0


def all_gather(tree: Tree) -> Tree:
    """The whole of each array on each host, as NumPy's where it was spread over several."""

    def whole(leaf: Any) -> Any:
        if leaf.is_fully_addressable:
            return leaf
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    gathered_tree: Tree = jax.tree.map(whole, tree)
    return gathered_tree
