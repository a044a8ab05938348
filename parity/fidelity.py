"""torch-fidelity without torchvision, which has no CPU build for every platform."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

_TORCHVISION = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")


@contextmanager
def torch_fidelity() -> Iterator[Any]:
    """Yield the library; empty modules replace what it imports from torchvision, none of which is called."""
    stand_ins = {name: ModuleType(name) for name in _TORCHVISION}
    for name in ("CIFAR10", "CIFAR100", "STL10"):
        setattr(stand_ins["torchvision.datasets"], name, type(name, (), {}))
    for name in _TORCHVISION[1:]:
        parent, _, child = name.rpartition(".")
        setattr(stand_ins[parent], child, stand_ins[name])
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_ins.items():
            patch.setitem(sys.modules, name, module)
        yield import_module("torch_fidelity")
