"""The command line of the generator."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reimagen_common.access.commands import keys_commands
from reimagen_common.command_line import (
    optional_dependencies,
    read_settings,
    report_errors,
    variables_help,
    version_option,
)
from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.generation import provenance
from reimagen_generator.settings import Hosts, Settings, user_cache

app = typer.Typer(
    help="Draw images of a prompt, grounded on the pairs of a knowledge base.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(keys_commands("REIMAGEN_GENERATOR_KEYS"), name="keys")


@app.callback()
def main(version: Annotated[bool, version_option("reimagen-generator")] = False) -> None:
    """Run before each command; the options of the program itself."""


@app.command(epilog=variables_help(Settings, Hosts))
def serve(
    weights: Annotated[
        str | None,
        typer.Option(
            help="Folder of a cascade, or its address in a store: cascade.json and its weights "
            "[default: the demo cascade]."
        ),
    ] = None,
    retriever: Annotated[
        str | None, typer.Option(help="host:port of the retriever [default: 127.0.0.1:50051].")
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="host:port to serve REST on [default: 127.0.0.1:8000]; 0 picks a free port.")
    ] = None,
    grpc: Annotated[
        str | None, typer.Option(help="host:port to serve gRPC on [default: 127.0.0.1:50052]; 0 picks a free port.")
    ] = None,
) -> None:
    """Serve REST and gRPC until SIGTERM or Ctrl-C.

    REST is OpenAI's POST /v1/images/generations and /v1/images/edits, and jobs, documented at /docs. /readyz answers
    200 when the cascade is compiled; the first start takes a while to compile it.
    """
    given = {"weights": weights, "retriever": retriever, "http": http, "grpc": grpc}
    with report_errors():
        settings = read_settings(Settings, given)
        # The servers take a second to import; --help and inspect do not need them.
        from reimagen_generator.server import run

        run(settings, read_settings(Hosts, {}))


@app.command()
def inspect(image: Annotated[Path, typer.Argument(help="PNG, JPEG or WebP file drawn by this service.")]) -> None:
    """Print the provenance of an image, read from its file."""
    with report_errors():
        typer.echo(json.dumps(asdict(provenance.read(image)), indent=2, ensure_ascii=False))


@app.command(epilog=variables_help(Hosts))
def train(
    config: Annotated[Path, typer.Argument(help="TOML file with the settings listed in docs/how-to/training.md.")],
) -> None:
    """Train one stage of a cascade; a restarted run resumes from its last checkpoint."""
    with report_errors():
        with optional_dependencies("reimagen-generator", "training"):
            from reimagen_generator.parallel.hosts import join
            from reimagen_generator.training.config import load_config
            from reimagen_generator.training.trainer import Trainer

        join(read_settings(Hosts, {}))
        try:
            Trainer(load_config(config)).run()
        except ValueError as error:
            raise InvalidArgument(str(error)) from error
        except FloatingPointError as error:
            raise ReimagenError(str(error)) from error


@app.command()
def redraw(
    data: Annotated[Path, typer.Argument(help="Folder of training shards whose images have the stage's size.")],
    out: Annotated[Path, typer.Argument(help="Folder for the shards with KEY.low.png; existing shards are skipped.")],
    weights: Annotated[Path, typer.Option(help="Folder of the cascade whose stage before redraws the images.")],
    stage: Annotated[int, typer.Option(min=1, help="Index of the stage to train, at least 1.")] = 1,
    time: Annotated[
        float, typer.Option(min=0, max=1, help="Time to which the low-resolution images are noised.")
    ] = 0.3,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the samples to redraw.")] = 0.5,
) -> None:
    """Write training shards whose low-resolution images are redrawn by the stage before."""
    with report_errors():
        with optional_dependencies("reimagen-generator", "training"):
            from reimagen_generator.training.redrawing import redraw as write

        try:
            write(data, out, weights, stage, time=time, share=share)
        except ValueError as error:
            raise InvalidArgument(str(error)) from error


@app.command()
def describe(
    preset: Annotated[str, typer.Argument(help="Name of a preset, or folder of a cascade.", show_default=False)],
) -> None:
    """Print a cascade as a tree of parts, with parameters and floating-point operations per evaluation."""
    with report_errors():
        from reimagen_generator.describe import describe as lines

        for line in lines(_configuration(preset)):
            typer.echo(line)


@app.command()
def plan(
    preset: Annotated[str, typer.Argument(help="Name of a preset, or folder of a cascade.", show_default=False)],
    topology: Annotated[
        str, typer.Option(help="TPU slice, a chip and its sides; or GPUs, such as h100:4.")
    ] = "v4:2x2x1",
    batch: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 4,
    neighbors: Annotated[
        int | None, typer.Option(min=0, max=16, help="Neighbors of each image [default: the preset's].")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Plan a training step of each stage instead of sampling.")
    ] = False,
    data: Annotated[
        int | None, typer.Option(min=1, help="Devices that divide the rows [default: all that remain].")
    ] = None,
    fsdp: Annotated[
        int | None, typer.Option(min=1, help="Devices that divide rows and parameters [default: the preset's].")
    ] = None,
    tensor: Annotated[
        int | None, typer.Option(min=1, help="Devices that divide matrix products [default: the preset's].")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the cached figures [default: in the user's cache].")
    ] = None,
) -> None:
    """Print what sampling or training needs on a TPU slice, without the TPUs: memory, work and minimum time.

    The TPU compiler optimizes every program for the slice, which takes minutes for a network of billions of parameters.
    """
    with report_errors():
        os.environ["JAX_PLATFORMS"] = "cpu"  # an existing TPU or GPU is not needed
        with optional_dependencies("reimagen-generator", "training,plan"):
            from reimagen_generator.planning.plan import Request
            from reimagen_generator.planning.plan import plan as lines

        config = _configuration(preset)
        given = {name: size for name, size in (("data", data), ("fsdp", fsdp), ("tensor", tensor)) if size is not None}
        mesh = config.mesh.model_copy(update=given)
        k = config.default_k if neighbors is None else neighbors
        folder = user_cache("plans") if cache is None else cache
        try:
            for line in lines(Request(config, topology, mesh, batch, k, train), folder):
                typer.echo(line)
        except ValueError as error:
            raise InvalidArgument(str(error)) from error


@app.command()
def checksums(folder: Annotated[Path, typer.Argument(help="Folder of a cascade.")]) -> None:
    """Write SHA256SUMS into a cascade's folder.

    `serve` needs the file to fetch a cascade from an object store. The program sha256sum can check it.
    """
    with report_errors():
        from reimagen_generator.weights.fetch import write_sums

        try:
            typer.echo(write_sums(folder))
        except ValueError as error:
            raise InvalidArgument(str(error)) from error


@app.command()
def import_deepfloyd(
    stage_i: Annotated[Path, typer.Argument(help="Folder of IF-I-M, IF-I-L or IF-I-XL, as downloaded.")],
    out: Annotated[Path, typer.Argument(help="Folder of the cascade to write, new or empty.")],
    stage_ii: Annotated[Path | None, typer.Option(help="Folder of IF-II-M or IF-II-L [default: none].")] = None,
    retrieval: Annotated[
        bool, typer.Option(help="Add attention to neighbors, to be trained; until then images do not change.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="Stored type: float32, float16 or bfloat16.")] = "float16",
) -> None:
    """Write a cascade with DeepFloyd IF's weights from the published folders."""
    with report_errors():
        from reimagen_generator.weights.importers.deepfloyd import import_deepfloyd as run

        try:
            config = run(stage_i, out, stage_ii=stage_ii, retrieval=retrieval, dtype=dtype)
        except ValueError as error:
            raise InvalidArgument(str(error)) from error
        typer.echo(f"{out}: {config.name}, {' and '.join(f'{s.size} × {s.size}' for s in config.stages)}")


def _configuration(preset: str) -> CascadeConfig:
    """Return the configuration of a preset or of a cascade's folder.

    Raises:
        InvalidArgument: There is no such preset or folder.
    """
    from reimagen_generator.config.presets import PRESETS
    from reimagen_generator.weights.checkpoint import CONFIG_FILE, load_config

    if preset in PRESETS:
        return PRESETS[preset]
    if not (Path(preset) / CONFIG_FILE).is_file():
        known = ", ".join(PRESETS)
        raise InvalidArgument(f"preset: must be one of {known}, or a folder with a {CONFIG_FILE}, got {preset!r}")
    try:
        return load_config(Path(preset))
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
