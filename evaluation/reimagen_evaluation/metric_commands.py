"""Commands that measure existing images and cascades."""

from pathlib import Path
from typing import Annotated

import typer

from reimagen_common.command_line import report_errors
from reimagen_common.errors import InvalidArgument


def distances(
    real: Annotated[Path, typer.Argument(help="Folder of real images, or of shards (*.tar).")],
    generated: Annotated[list[Path], typer.Argument(help="Folders of the images to measure, one table row each.")],
    features: Annotated[
        Path,
        typer.Option(
            help="The feature network: InceptionV3's safetensors file for FID and KID, or the folder of a CLIP, DINO, "
            "DINOv2 or judge."
        ),
    ],
    square: Annotated[
        int | None,
        typer.Option(min=32, help="Side in pixels to resize the middle square of every image to first [default: off]."),
    ] = None,
    subset_size: Annotated[int, typer.Option(min=2, help="Images per subset of the kernel distance.")] = 1_000,
    batch: Annotated[int, typer.Option(min=1, help="Number of images per batch.")] = 32,
) -> None:
    """Print the Fréchet and the kernel distance of images to real ones; with Inception's features, FID and KID."""
    with report_errors():
        from reimagen_evaluation import distances as measuring
        from reimagen_evaluation.features.registry import load_features

        try:
            network = load_features(features)
            typer.echo(f"| features of {network.name} | images | Fréchet | kernel × 1000 | ± |\n|---|---|---|---|---|")
            for row in measuring.distances(
                real, generated, network, square=square, subset_size=subset_size, batch_size=batch
            ):
                kernel = f"{1000 * row.kernel.mean:.3f} | {1000 * row.kernel.deviation:.3f}"
                typer.echo(f"| {row.folder} | {row.images:,} | {row.frechet:.4f} | {kernel} |")
        except ValueError as error:
            raise InvalidArgument(str(error)) from error


def super_resolution(
    weights: Annotated[list[Path], typer.Argument(help="Folders of cascades, one table row each.")],
    images: Annotated[Path, typer.Option(help="Folder of training shards (*.tar) with images of the stage's size.")],
    stage: Annotated[int, typer.Option(min=1, help="Number of the stage; 1 is the first super-resolution stage.")] = 1,
    count: Annotated[int, typer.Option(min=1, help="Number of images, the first of the shards.")] = 50,
) -> None:
    """Print how well a stage upsamples true images that were shrunk: PSNR against bicubic, grain and edge width."""
    with report_errors():
        from reimagen_evaluation.super_resolution import super_resolution as measure

        try:
            true = None
            typer.echo(
                f"| {count:,} images | PSNR, dB | over bicubic | worst | grain | of true | edge width, px | of true |"
                "\n|---|---|---|---|---|---|---|---|"
            )
            for row in measure(weights, stage, images, count):
                true = true or row
                psnr = f"{row.psnr:.2f} | {row.gain:+.2f} | {row.worst_gain:+.2f}" if row is not true else "| |"
                grain, width = _beside(row.grain, true.grain), _beside(row.edge_width, true.edge_width)
                typer.echo(f"| {row.name} | {psnr} | {grain} | {width} |")
        except ValueError as error:
            raise InvalidArgument(str(error)) from error


def reference_use(
    weights: Annotated[Path, typer.Argument(help="Folder of a cascade.")],
    data: Annotated[Path, typer.Argument(help="Folder of training shards with images of the stage's size.")],
    stage: Annotated[int, typer.Option(min=0, help="Number of the stage, from 0.")] = 0,
    count: Annotated[int, typer.Option(min=16, help="Number of samples.")] = 128,
    neighbors: Annotated[int, typer.Option(min=1, max=16, help="Number of neighbors of each sample, best first.")] = 2,
) -> None:
    """Print a stage's loss by time with the right neighbors, with another image's neighbors, and with none."""
    with report_errors():
        from reimagen_evaluation.reference_use import reference_use as measure

        typer.echo("| time | right | shuffled | none | right / shuffled |\n|---|---|---|---|---|")
        try:
            for row in measure(weights, stage, data, count, neighbors):
                figures = f"{row.right:.4f} | {row.shuffled:.4f} | {row.none:.4f} | {row.right / row.shuffled:.3f}"
                typer.echo(f"| {row.time:g} | {figures} |")
        except ValueError as error:
            raise InvalidArgument(str(error)) from error


def _beside(value: float, true: float) -> str:
    """Return two table cells: a figure, and its ratio to the true images' figure if that is above zero."""
    return f"{value:.2f} | {f'{value / true:.2f}' if true > 0 else ''}"
