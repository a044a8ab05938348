"""The command line of the generator."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

from reimagen_common.errors import ReimagenError, from_validation_error
from reimagen_common.logs import configure_logging
from reimagen_generator import provenance
from reimagen_generator.settings import Settings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Draws pictures grounded on neighbors.")
_console = Console()
_errors = Console(stderr=True)


@app.callback()
def main() -> None:
    """Draw pictures that are grounded on a knowledge base."""


@app.command()
def serve(
    weights: Annotated[
        Path | None, typer.Option(help="Folder of a cascade: cascade.json and its weights. Default: the demo's.")
    ] = None,
    retriever: Annotated[str | None, typer.Option(help="host:port of the retriever. Default: 127.0.0.1:50051.")] = None,
    http: Annotated[str | None, typer.Option(help="host:port of REST. Default: 127.0.0.1:8000.")] = None,
    grpc: Annotated[str | None, typer.Option(help="host:port of gRPC. Default: 127.0.0.1:50052.")] = None,
) -> None:
    """Serve REST and gRPC until Ctrl-C or SIGTERM.

    Each option, and each further setting (queue_capacity, deadline, grace, compile_cache, log_level), is also an
    environment variable: REIMAGEN_GENERATOR_QUEUE_CAPACITY=2, for example. REST describes itself at /docs.
    """
    given = {"weights": weights, "retriever": retriever, "http": http, "grpc": grpc}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        _fail(from_validation_error(first, first["loc"]).message)
    configure_logging("generator", settings.log_level)
    # JAX takes seconds to import; --help and inspect do without it.
    from reimagen_generator.serving import serve as run

    run(settings)


@app.command()
def inspect(picture: Annotated[Path, typer.Argument(help="A PNG, JPEG or WebP file that this service drew.")]) -> None:
    """Print what a picture was grounded on, as its own file tells it."""
    try:
        origin = provenance.read(picture)
    except ReimagenError as error:
        _fail(error.message)
    _console.print_json(data=asdict(origin))


def _fail(message: str) -> NoReturn:
    _errors.print(f"Error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)
