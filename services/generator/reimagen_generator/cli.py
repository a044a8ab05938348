"""The command line of the generator."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reimagen_common.command_line import optional_dependencies, read_settings, report_errors, variables_help
from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.generation import provenance
from reimagen_generator.settings import Hosts, Settings, user_cache

app = typer.Typer(
    help="Draws images of a prompt, grounded on the pairs of a knowledge base.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(epilog=variables_help(Settings))
def serve(
    weights: Annotated[
        Path | None, typer.Option(help="Folder of a cascade: cascade.json and its weights [default: the demo's].")
    ] = None,
    retriever: Annotated[
        str | None, typer.Option(help="host:port of the retriever [default: 127.0.0.1:50051].")
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="host:port of REST [default: 127.0.0.1:8000]; port 0 takes a free one.")
    ] = None,
    grpc: Annotated[
        str | None, typer.Option(help="host:port of gRPC [default: 127.0.0.1:50052]; port 0 takes a free one.")
    ] = None,
) -> None:
    """Serve REST and gRPC until SIGTERM or Ctrl-C.

    REST is OpenAI's POST /v1/images/generations, and describes itself at /docs; /readyz answers 200 once the cascade is
    compiled, which the first start takes a while for.
    """
    given = {"weights": weights, "retriever": retriever, "http": http, "grpc": grpc}
    with report_errors():
        settings = read_settings(Settings, given)
        # JAX takes seconds to import; --help and inspect do without it.
        from reimagen_generator.server import run

        run(settings)


@app.command()
def inspect(image: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP file that this service drew.")]) -> None:
    """Print what an image was grounded on, as its own file tells it."""
    with report_errors():
        typer.echo(json.dumps(asdict(provenance.read(image)), indent=2, ensure_ascii=False))


@app.command(epilog=variables_help(Hosts))
def train(
    config: Annotated[Path, typer.Argument(help="TOML file of the settings that docs/training.md lists.")],
) -> None:
    """Train one stage of a cascade; stopped and started again, it goes on from its last checkpoint."""
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
    data: Annotated[Path, typer.Argument(help="Folder of training shards, of the stage's size of images.")],
    out: Annotated[Path, typer.Argument(help="Folder for the shards with KEY.low.png; those already there are kept.")],
    weights: Annotated[Path, typer.Option(help="Folder of the cascade whose stage before draws.")],
    stage: Annotated[int, typer.Option(min=1, help="Which stage is to be trained, from 1.")] = 1,
    time: Annotated[float, typer.Option(min=0, max=1, help="How far the smaller images are noised.")] = 0.3,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the samples that are redrawn.")] = 0.5,
) -> None:
    """Write training shards in which a stage learns to enlarge what the stage before it draws."""
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
    """Print a cascade as a tree of parts, with parameters and floating-point operations of an evaluation."""
    with report_errors():
        from reimagen_generator.describe import describe as lines

        for line in lines(_configuration(preset)):
            typer.echo(line)


@app.command()
def plan(
    preset: Annotated[str, typer.Argument(help="Name of a preset, or folder of a cascade.", show_default=False)],
    topology: Annotated[str, typer.Option(help="Slice of TPUs.")] = "v4:2x2x1",
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 4,
    neighbors: Annotated[int | None, typer.Option(min=0, max=16, help="Of each image [default: the preset's].")] = None,
    train: Annotated[bool, typer.Option("--train", help="A training step of each stage, not a drawing.")] = False,
    data: Annotated[int | None, typer.Option(min=1, help="Devices that share out rows [default: the others].")] = None,
    fsdp: Annotated[
        int | None, typer.Option(min=1, help="Devices that share out rows and parameters [default: the preset's].")
    ] = None,
    tensor: Annotated[
        int | None, typer.Option(min=1, help="Devices that share out products [default: the preset's].")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of what was compiled [default: the user's cache].")] = None,
) -> None:
    """Print what a drawing, or training, takes on TPUs that are not there: memory, work and the least time.

    The compiler of TPUs optimizes every program for the slice: minutes for a network of billions of parameters.
    """
    with report_errors():
        os.environ["JAX_PLATFORMS"] = "cpu"  # a TPU or GPU that is there is not needed
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
def import_deepfloyd(
    stage_i: Annotated[Path, typer.Argument(help="Folder of IF-I-M, IF-I-L or IF-I-XL, as downloaded.")],
    out: Annotated[Path, typer.Argument(help="Folder of the cascade to write, new or empty.")],
    stage_ii: Annotated[Path | None, typer.Option(help="Folder of IF-II-M or IF-II-L [default: none].")] = None,
    retrieval: Annotated[
        bool, typer.Option(help="Add attention to neighbors, to be trained; it changes no image before.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="What to store: float32, float16 or bfloat16.")] = "float16",
) -> None:
    """Write a cascade of DeepFloyd IF's weights from the folders that people download."""
    with report_errors():
        from reimagen_generator.weights.importers.deepfloyd import import_deepfloyd as run

        try:
            config = run(stage_i, out, stage_ii=stage_ii, retrieval=retrieval, dtype=dtype)
        except ValueError as error:
            raise InvalidArgument(str(error)) from error
        typer.echo(f"{out}: {config.name}, {' and '.join(f'{s.size} × {s.size}' for s in config.stages)}")


def _configuration(preset: str) -> CascadeConfig:
    """A preset's, or that of a cascade's folder.

    Raises:
        InvalidArgument: it is neither.
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
