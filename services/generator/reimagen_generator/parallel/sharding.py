"""Placement of parameters and rows on a mesh. Without a mesh, the functions return their input."""

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from reimagen_generator.parallel.mesh import DATA, FSDP
from reimagen_generator.parallel.rules import partition, spec

Tree = TypeVar("Tree")


def parameter_shardings(tree: Tree, mesh: Mesh, *, without: str | None = None) -> Tree:
    """Return a sharding for each leaf of a network's state, or of a tree of such states, by the leaf's name.

    Args:
        tree: The state.
        mesh: The mesh on which to place it.
        without: An axis that must not divide any dimension.
    """

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = ".".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path)
        axes = partition(name.removesuffix(".value"), leaf.shape, mesh.shape) if leaf.ndim else spec()
        return NamedSharding(mesh, spec(*(None if axis == without else axis for axis in axes)))

    shardings: Tree = jax.tree_util.tree_map_with_path(sharding, tree)
    return shardings


def place_parameters(tree: Tree, mesh: Mesh | None) -> Tree:
    """Return the tree with each parameter placed by its name; abstract shapes get the sharding alone."""
    return tree if mesh is None else _put(tree, parameter_shardings(tree, mesh))


def constrain_parameters(tree: Tree, mesh: Mesh | None) -> Tree:
    """Constrain the placement of parameters in compiled code, as `place_parameters` does outside."""
    return tree if mesh is None else _constrain(tree, parameter_shardings(tree, mesh))


def unshard(tree: Tree, mesh: Mesh | None) -> Tree:
    """Gather in compiled code the parameters that `fsdp` divides, for their use.

    Without this constraint, the compiler would divide maps in the same way as the parameters, although `fsdp` already
    divides the rows, and give devices rows that belong to others.
    """
    return tree if mesh is None else _constrain(tree, parameter_shardings(tree, mesh, without=FSDP))


def row_shardings(tree: Tree, mesh: Mesh) -> Tree:
    """Return a sharding for each array of a tree, by its first dimension.

    The rows are divided among as many of the devices of `data` and `fsdp` as divide their number.
    """

    def sharding(leaf: Any) -> NamedSharding:
        for axes in ((DATA, FSDP), (DATA,), (FSDP,)):
            if leaf.ndim and leaf.shape[0] % math.prod(mesh.shape[axis] for axis in axes) == 0:
                return NamedSharding(mesh, spec(axes))
        return NamedSharding(mesh, spec())

    shardings: Tree = jax.tree.map(sharding, tree)
    return shardings


def place_rows(tree: Tree, mesh: Mesh | None) -> Tree:
    """Return the tree with its rows divided. On several hosts, each host passes the same complete rows."""
    return tree if mesh is None else _put(tree, row_shardings(tree, mesh))


def constrain_rows(tree: Tree, mesh: Mesh | None) -> Tree:
    """Constrain the placement of rows in compiled code, as `place_rows` does outside."""
    return tree if mesh is None else _constrain(tree, row_shardings(tree, mesh))


def _put(tree: Tree, shardings: Tree) -> Tree:
    def put(leaf: Any, sharding: NamedSharding) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf.update(sharding=sharding)  # type: ignore[no-untyped-call]
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = jax.random.key_data(leaf)
            return jax.random.wrap_key_data(put(data, sharding), impl=jax.random.key_impl(leaf))
        if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            return leaf
        whole = np.asarray(leaf)  # each host has all of it, and fills the part of its devices
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    placed: Tree = jax.tree.map(put, tree, shardings)
    return placed


def _constrain(tree: Tree, shardings: Tree) -> Tree:
    constrained: Tree = jax.lax.with_sharding_constraint(tree, shardings)  # type: ignore[no-untyped-call]
    return constrained
