"""Commands that measure pictures that are there already."""

from pathlib import Path
from typing import Annotated

import typer

from reimagen_common.command_line import told
from reimagen_common.errors import InvalidArgument


def distances(
    real: Annotated[Path, typer.Argument(help="Folder of real pictures, or of shards (*.tar).")],
    generated: Annotated[
        list[Path], typer.Argument(help="Folders of the pictures to measure, a row of the table each.")
    ],
    features: Annotated[
        Path,
        typer.Option(
            help="The network: InceptionV3's safetensors file for FID and KID, or the folder of a CLIP, DINO, DINOv2 "
            "or judge."
        ),
    ],
    square: Annotated[
        int | None,
        typer.Option(min=32, help="Bring the middle square of every picture to this side first [default: as it is]."),
    ] = None,
    subset_size: Annotated[int, typer.Option(min=2, help="Pictures in each of the kernel distance's subsets.")] = 1_000,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 32,
) -> None:
    """Print the Fréchet and the kernel distance of pictures to real ones: FID and KID, in Inception's features."""
    with told():
        from reimagen_generator.evaluation import distances as measuring
        from reimagen_generator.evaluation.features.registry import load_features

        try:
            network = load_features(features)
            typer.echo(
                f"| features of {network.name} | pictures | Fréchet | kernel × 1000 | ± |\n|---|---|---|---|---|"
            )
            for row in measuring.distances(
                real, generated, network, square=square, subset_size=subset_size, batch_size=batch
            ):
                kernel = f"{1000 * row.kernel.mean:.3f} | {1000 * row.kernel.deviation:.3f}"
                typer.echo(f"| {row.folder} | {row.pictures:,} | {row.frechet:.4f} | {kernel} |")
        except ValueError as error:
            raise InvalidArgument(str(error)) from error
