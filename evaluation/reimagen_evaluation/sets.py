"""Distances of each setting's images to real ones: FID over a sweep.

OUT/distances.csv has a line for each setting; the report shows its Fréchet distances.
"""

from pathlib import Path
from typing import Final

from reimagen_evaluation import records
from reimagen_evaluation.distances import distances
from reimagen_evaluation.features.network import FeatureNetwork
from reimagen_evaluation.runs import DRAWN
from reimagen_evaluation.sweep import Sweep

DISTANCES: Final = "distances.csv"


def measure(out: Path, sweep: Sweep, real: Path, network: FeatureNetwork, *, square: int | None, subset: int) -> None:
    """Measure the settings that are not measured yet, with the images that are drawn so far.

    Args:
        out: folder of the sweep.
        sweep: the sweep that was drawn.
        real: folder of real images, or of shards.
        network: network that computes the features.
        square: side in pixels to resize the middle square of all images to; None leaves images as they are.
        subset: images per subset of the kernel distance.

    Raises:
        ValueError: a folder has no images, or fewer than a subset.
    """
    done = {(row["setting"], row["features"], row["images"]) for row in records.read(out / DISTANCES)}
    counts = {name: len(records.read(out / name / DRAWN)) for name in sweep.folders()}
    missing = [name for name, count in counts.items() if count and (name, network.name, str(count)) not in done]
    folders = [out / name / "images" for name in missing]
    if not folders:
        return
    measured = distances(real, folders, network, square=square, subset_size=subset, batch_size=32)
    for name, row in zip(missing, measured, strict=True):
        line = {"setting": name, "features": network.name, "images": row.images, "frechet": f"{row.frechet:.6g}"}
        kernel = {"kernel": f"{row.kernel.mean:.6g}", "kernel deviation": f"{row.kernel.deviation:.6g}"}
        records.append(out / DISTANCES, [line | kernel])


def read(out: Path) -> dict[str, float]:
    """Return the latest Fréchet distance of each setting."""
    return {row["setting"]: float(row["frechet"]) for row in records.read(out / DISTANCES)}
