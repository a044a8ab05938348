"""The Fréchet and the kernel distance compared with torch-fidelity's, on the same features."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float

from parity.fidelity import torch_fidelity
from reimagen_evaluation.frechet import frechet_distance, moments
from reimagen_evaluation.kernel import kernel_distance

_Pair = tuple[Float[np.ndarray, "rows channels"], Float[np.ndarray, "rows channels"]]


@pytest.fixture(scope="module")
def fidelity() -> Iterator[Any]:
    with torch_fidelity() as library:
        yield library


def features(rows: int, channels: int) -> _Pair:
    """Return features like Inception's: not negative, with correlated channels of different scales."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((channels, channels)) / np.sqrt(channels) * rng.uniform(0.1, 1.5, channels)
    first = np.maximum(rng.standard_normal((rows, channels)) @ mixing + 0.3, 0)
    second = np.maximum(rng.standard_normal((rows + 50, channels)) @ np.roll(mixing, 3, axis=0) * 1.1 + 0.2, 0)
    return first.astype(np.float32), second.astype(np.float32)


@pytest.mark.parametrize(("rows", "channels"), [(1500, 96), (120, 192)], ids=["many images", "few images"])
def test_the_frechet_distance_equals_torch_fidelitys(fidelity: Any, rows: int, channels: int) -> None:
    pair = features(rows, channels)
    theirs = fidelity.metric_fid.fid_statistics_to_metric(
        *(fidelity.metric_fid.fid_features_to_statistics(torch.tensor(f)) for f in pair), verbose=False
    )["frechet_inception_distance"]
    ours = frechet_distance(*(moments(np.array_split(f, 7)) for f in pair))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_the_kernel_distance_equals_torch_fidelitys(fidelity: Any) -> None:
    first, second = features(1500, 96)
    theirs = fidelity.metric_kid.kid_features_to_metric(
        torch.tensor(first), torch.tensor(second), kid_subsets=20, kid_subset_size=500, verbose=False
    )
    ours = kernel_distance(first, second, subsets=20, subset_size=500)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert ours.deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)
