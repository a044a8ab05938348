"""How often the placement network puts two objects on the sides of each other that the prompt states.

    python -m reimagen_demo.data.compose --split held-out --count 1500 --seed 41 build/demo/arrangement
    python -m reimagen_demo.report.arrangement build/demo/arrangement

The second command takes the composed samples of two objects, places their references by the prompt alone, as sampling
does, and compares the placements with the true ones.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import typer
from tqdm import tqdm

from reimagen_demo.stack.running import report_errors
from reimagen_evaluation.report.statistics import wilson
from reimagen_generator.diffusion.placing import Placer, groups
from reimagen_generator.diffusion.resize import to_float
from reimagen_generator.networks.placement import Placements
from reimagen_generator.settings import SHIPPED_WEIGHTS
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.training.data import Sample, ShardSource, collate
from reimagen_generator.weights import checkpoint

BATCH: Final = 16
NEIGHBORS: Final = 4
LEAST_DISTANCE: Final = 0.12
"""Objects whose true centers are nearer than this in both directions are not counted, as a share of the side."""
_DEPTH: Final = ("behind", "in front of")


@dataclass(frozen=True)
class Pair:
    """A sample of two objects."""

    sample: Sample
    layout: str
    """How the prompt states their arrangement: a relation, "order of mention" or "stated places"."""
    neighbors: tuple[int, int]
    """The rank of the first neighbor of each object."""


def pairs(folder: Path) -> Iterator[Pair]:
    """Yield the composed samples of two objects in a folder of shards."""
    source = ShardSource(folder)
    facts = _facts(folder)
    for index in range(len(source)):
        described = facts[source.members(index)[0]]
        things = described["things"]
        if len(things) != 2:
            continue
        sample = source[index]
        placed = [rank for rank, n in enumerate(sample.neighbors[:NEIGHBORS]) if n.truth and n.truth.placements]
        first = {sample.neighbors[rank].caption: rank for rank in reversed(placed)}
        if len(first) == 2:
            layout = described["relation"] or ("stated places" if things[0]["place"] else "order of mention")
            a, b = first.values()
            yield Pair(sample, layout, (a, b))


def _facts(folder: Path) -> dict[str, Any]:
    """Return the contents of each sample's KEY.json by its key."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as shard:
            for member in shard:
                key, _, extension = member.name.partition(".")
                file = shard.extractfile(member)
                if extension == "json" and file is not None:
                    found[key] = json.load(file)
    return found


def is_right(layout: str, found: np.ndarray, true: np.ndarray) -> bool | None:
    """Return whether two objects are arranged as in truth; None if the truth is too close to tell.

    Args:
        layout: The layout of the pair.
        found: Center (x, y) and size of each object, one object in each row.
        true: The true ones.
    """
    if layout in _DEPTH:  # the nearer object reaches further down
        bottoms = true[:, 1] + true[:, 2] / 2, found[:, 1] + found[:, 2] / 2
        true_side, side = (float(bottom[1] - bottom[0]) for bottom in bottoms)
    else:
        distance = true[1, :2] - true[0, :2]
        axis = int(np.abs(distance).argmax())
        if abs(distance[axis]) < LEAST_DISTANCE:
            return None
        true_side, side = float(distance[axis]), float(found[1, axis] - found[0, axis])
    return bool(true_side * side > 0)


def placed(placer: Placer, encoder: TextEncoder, samples: Sequence[Sample], seed: int) -> tuple[Placements, Placements]:
    """Return the placements that the network draws for samples, and the true ones.

    Raises:
        ValueError: A sample does not state the placements of its neighbors.
    """
    rows = [*samples, *[samples[-1]] * (BATCH - len(samples))]  # of constant number, to compile once
    batch = collate(rows, encoder, NEIGHBORS)
    if batch.truth is None:
        raise ValueError("data: must be composed shards with the placements of neighbors (KEY.neighborN.json)")
    captions = [[neighbor.caption for neighbor in row.neighbors[:NEIGHBORS]] for row in rows]
    leaders, canvas = groups(captions, NEIGHBORS)
    placing = placer.placing_at(
        to_float(batch.neighbor_images),
        batch.text,
        batch.neighbor_text,
        leaders=leaders,
        canvas=canvas,
        keys=jax.random.split(jax.random.key(seed), BATCH),
        image=jnp.zeros((BATCH, placer.config.image_side, placer.config.image_side, 3)),
        time=jnp.ones(BATCH),
    )
    return placing.placements, batch.truth.placements


def _boxes(placements: Placements) -> np.ndarray:
    boxes: np.ndarray = np.concatenate(
        [np.asarray(placements.center[:, :, 0]), np.asarray(placements.size[:, :, 0])[..., None]], axis=-1
    )
    return boxes


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of composed shards.")],
    weights: Annotated[Path, typer.Option(help="Folder of the cascade.")] = SHIPPED_WEIGHTS,
) -> None:
    """Print how often two objects are arranged as their prompt states."""
    with report_errors():
        try:
            config = checkpoint.load_config(weights)
            if config.placement is None:
                raise ValueError(f"weights: {config.name} has no placement network")
            placer = Placer(checkpoint.load_placement(weights / checkpoint.PLACEMENT_FILE, config.placement))
            encoder = load_text_encoder(config, weights)
            of_two = list(pairs(folder))
            right: dict[str, list[bool]] = {}
            for first in tqdm(range(0, len(of_two), BATCH), desc="placing", unit="batch"):
                part = of_two[first : first + BATCH]
                found, true = map(_boxes, placed(placer, encoder, [pair.sample for pair in part], first))
                for row, pair in enumerate(part):
                    ranks = list(pair.neighbors)
                    if (answer := is_right(pair.layout, found[row, ranks], true[row, ranks])) is not None:
                        right.setdefault(pair.layout, []).append(answer)
        except ValueError as error:
            raise RuntimeError(str(error)) from error
    print("| arrangement | right | n |\n|---|---|---|")
    for layout, answers in [*sorted(right.items()), ("all", [answer for of in right.values() for answer in of])]:
        rate = wilson(sum(answers), len(answers))
        print(f"| {layout} | {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}] | {rate.n} |")


if __name__ == "__main__":
    typer.run(main)
