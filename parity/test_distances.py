"""The Fréchet and the kernel distance beside torch-fidelity's, of the same features."""

import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import torch
from jaxtyping import Float

from reimagen_generator.evaluation.frechet import frechet_distance, moments
from reimagen_generator.evaluation.kernel import kernel_distance

_Pair = tuple[Float[np.ndarray, "rows channels"], Float[np.ndarray, "rows channels"]]


@pytest.fixture(scope="module")
def torch_fidelity() -> Iterator[ModuleType]:
    """The library, beside empty modules for what it imports of torchvision, none of which these functions call."""
    names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    stand_ins = {name: ModuleType(name) for name in names}
    for name in ("CIFAR10", "CIFAR100", "STL10"):
        setattr(stand_ins["torchvision.datasets"], name, type(name, (), {}))
    for name in names[1:]:
        parent, _, child = name.rpartition(".")
        setattr(stand_ins[parent], child, stand_ins[name])
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_ins.items():
            patch.setitem(sys.modules, name, module)
        yield import_module("torch_fidelity")


def features(rows: int, channels: int) -> _Pair:
    """As Inception's: not negative, of channels that go together and differ in size."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((channels, channels)) / np.sqrt(channels) * rng.uniform(0.1, 1.5, channels)
    first = np.maximum(rng.standard_normal((rows, channels)) @ mixing + 0.3, 0)
    second = np.maximum(rng.standard_normal((rows + 50, channels)) @ np.roll(mixing, 3, axis=0) * 1.1 + 0.2, 0)
    return first.astype(np.float32), second.astype(np.float32)


@pytest.mark.parametrize(("rows", "channels"), [(1500, 96), (120, 192)], ids=["many pictures", "few pictures"])
def test_the_frechet_distance(torch_fidelity: ModuleType, rows: int, channels: int) -> None:
    pair = features(rows, channels)
    theirs = torch_fidelity.metric_fid.fid_statistics_to_metric(
        *(torch_fidelity.metric_fid.fid_features_to_statistics(torch.tensor(f)) for f in pair), verbose=False
    )["frechet_inception_distance"]
    ours = frechet_distance(*(moments(np.array_split(f, 7)) for f in pair))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_the_kernel_distance(torch_fidelity: ModuleType) -> None:
    first, second = features(1500, 96)
    theirs = torch_fidelity.metric_kid.kid_features_to_metric(
        torch.tensor(first), torch.tensor(second), kid_subsets=20, kid_subset_size=500, verbose=False
    )
    ours = kernel_distance(first, second, subsets=20, subset_size=500)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert ours.deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)
