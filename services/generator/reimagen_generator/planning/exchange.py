"""The bytes that a compiled program sends between devices, read from its text: the compiler does not count them."""

import re

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%\S+ = (.+?) ({_KINDS})(-start)?\((.*)$", re.MULTILINE)
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_GROUPS = re.compile(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]*)\})")


def exchanged_bytes(program: str) -> float:
    """Bytes that each device sends, by the best ring algorithm, an instruction in a loop counted once.

    Args:
        program: HLO as text.
    """
    return sum(_sent(*found.groups()) for found in _INSTRUCTION.finditer(program))


def _sent(result: str, kind: str, start: str | None, rest: str) -> float:
    sizes = [_size(element, dimensions) for element, dimensions in _SHAPE.findall(result)]
    # What starts an exchange puts out its operands too, before its results.
    whole = max(sizes, default=0.0) if start else sum(sizes)
    groups = _GROUPS.search(rest)
    if kind == "collective-permute":
        return whole
    devices = 1 if groups is None else int(groups[1] or groups[2].count(",") + 1)
    share = (devices - 1) / devices
    return {"all-reduce": 2 * share, "reduce-scatter": devices * share}.get(kind, share) * whole


def _size(element: str, dimensions: str) -> float:
    size = float(_BYTES.get(element, 0))
    for dimension in filter(None, dimensions.split(",")):
        size *= int(dimension)
    return size
