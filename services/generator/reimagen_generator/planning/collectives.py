"""Bytes that a compiled program sends between devices, read from its text, since the compiler does not count them."""

import math
import re

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%\S+ = (.+?) ({_KINDS})(-start)?\((.*)$", re.MULTILINE)
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
# Groups of devices that communicate: as a number of groups and their size; as lists; or along axes of a mesh, possibly
# along a part of an axis, such as 'a':(2)4.
_GROUPS = re.compile(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]*)\}|mesh\[([^\]]*)\].*? \{([^}]*)\})")
_SIDE = re.compile(r"'(\w+)'=(\d+)")
_AXIS = re.compile(r"'(\w+)'(?::\(\d+\)(\d+))?")


def exchanged_bytes(program: str) -> float:
    """Return the bytes that each device sends with the best ring algorithm. An instruction in a loop counts once.

    Args:
        program: HLO as text.

    Raises:
        ValueError: The program does not state the devices of an exchange.
    """
    return sum(_sent(*found.groups()) for found in _INSTRUCTION.finditer(program))


def _sent(result: str, kind: str, start: str | None, rest: str) -> float:
    sizes = [_size(element, dimensions) for element, dimensions in _SHAPE.findall(result)]
    # The start of an asynchronous exchange returns its operands too, before its results.
    whole = max(sizes, default=0.0) if start else sum(sizes)
    if kind == "collective-permute":
        return whole
    devices = _devices(rest)
    share = (devices - 1) / devices
    return {"all-reduce": 2 * share, "reduce-scatter": devices * share}.get(kind, share) * whole


def _devices(attributes: str) -> int:
    """Return the number of devices in a group."""
    groups = _GROUPS.search(attributes)
    if groups is None:
        raise ValueError(f"replica_groups: unknown devices: {attributes[:200]}")
    size, members, sides, axes = groups.groups()
    if size:
        return int(size)
    if members is not None:
        return int(members.count(",")) + 1
    side_of = dict(_SIDE.findall(sides))
    return math.prod(int(part or side_of[axis]) for axis, part in _AXIS.findall(axes))


def _size(element: str, dimensions: str) -> float:
    size = float(_BYTES.get(element, 0))
    for dimension in filter(None, dimensions.split(",")):
        size *= int(dimension)
    return size
