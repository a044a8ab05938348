"""The bytes that a compiled program sends between devices, read from its text: the compiler does not count them."""

import math
import re

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%\S+ = (.+?) ({_KINDS})(-start)?\((.*)$", re.MULTILINE)
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
# Devices that exchange among themselves: as so many groups of so many; one by one; or along axes of a mesh, of an axis
# perhaps a part only, such as 'a':(2)4.
_GROUPS = re.compile(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]*)\}|mesh\[([^\]]*)\].*? \{([^}]*)\})")
_SIDE = re.compile(r"'(\w+)'=(\d+)")
_AXIS = re.compile(r"'(\w+)'(?::\(\d+\)(\d+))?")


def exchanged_bytes(program: str) -> float:
    """Bytes that each device sends, by the best ring algorithm, an instruction in a loop counted once.

    Args:
        program: HLO as text.

    Raises:
        ValueError: an exchange does not tell between how many devices it is.
    """
    return sum(_sent(*found.groups()) for found in _INSTRUCTION.finditer(program))


def _sent(result: str, kind: str, start: str | None, rest: str) -> float:
    sizes = [_size(element, dimensions) for element, dimensions in _SHAPE.findall(result)]
    # What starts an exchange puts out its operands too, before its results.
    whole = max(sizes, default=0.0) if start else sum(sizes)
    if kind == "collective-permute":
        return whole
    devices = _devices(rest)
    share = (devices - 1) / devices
    return {"all-reduce": 2 * share, "reduce-scatter": devices * share}.get(kind, share) * whole


def _devices(attributes: str) -> int:
    """How many exchange among themselves."""
    groups = _GROUPS.search(attributes)
    if groups is None:
        raise ValueError(f"a program's exchange between unknown devices: {attributes[:200]}")
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
