"""Several hosts as one machine, each running the same program on the same data."""

from typing import Any, Self, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Tree = TypeVar("Tree")


class Hosts(BaseSettings):
    """Which hosts work together. REIMAGEN_GENERATOR_COORDINATOR=auto sets coordinator, and so on."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_GENERATOR_", frozen=True)

    coordinator: str | None = Field(
        None, description="host:port of process 0, or auto where the cloud tells it; unset for one host alone."
    )
    processes: int | None = Field(None, ge=1, description="How many hosts.")
    process: int | None = Field(None, ge=0, description="Which of them this is, from 0.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        given = self.processes is not None and self.process is not None
        if self.coordinator not in (None, "auto") and not given:
            raise ValueError("processes, process: must both be set beside an address as coordinator")
        return self


def join(hosts: Hosts) -> None:
    """Waits for the other hosts, if there are to be any; before anything else asks for a device."""
    match hosts.coordinator:
        case None:
            return
        case "auto":
            jax.distributed.initialize()
        case address:
            jax.distributed.initialize(address, hosts.processes, hosts.process)


def leads() -> bool:
    """Whether this host is the one that writes and tells."""
    return jax.process_index() == 0


def gathered(tree: Tree) -> Tree:
    """The whole of each array on each host, as NumPy's where it was spread over several."""

    def whole(leaf: Any) -> Any:
        if leaf.is_fully_addressable:
            return leaf
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    gathered_tree: Tree = jax.tree.map(whole, tree)
    return gathered_tree
