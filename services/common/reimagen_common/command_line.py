"""Helpers of the command lines: read settings, and print errors for users."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from reimagen_common.errors import Damaged, InvalidArgument, NotFound, ReimagenError, from_validation_error
from reimagen_common.secrets import masked

_WRONG_PATH = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)

_Settings = TypeVar("_Settings", bound=BaseSettings)


@contextmanager
def report_errors() -> Iterator[None]:
    """Print an error that the user can act on as one sentence, without a traceback, and exit.

    The exit status is 2 for errors that the user must fix: invalid arguments, missing or damaged inputs. It is 1 for
    other failures, such as a service that does not answer or a full disk.
    """
    try:
        yield
    except ReimagenError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2 if isinstance(error, InvalidArgument | NotFound | Damaged) else 1) from error
    except OSError as error:
        typer.echo(f"error: {masked(str(error))}", err=True)
        raise typer.Exit(2 if isinstance(error, _WRONG_PATH) else 1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped", err=True)
        raise typer.Exit(130) from error


@contextmanager
def optional_dependencies(package: str, extra: str) -> Iterator[None]:
    """Name the extra to install if an import inside the context fails.

    Args:
        package: The distribution, such as `reimagen-generator`.
        extra: The extra of the distribution that contains the packages.

    Raises:
        InvalidArgument: A package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            f"this command needs the package {error.name!r}, which is not installed: "
            f"run `pip install '{package}[{extra}]'`"
        ) from error


def version_option(package: str) -> Any:
    """Return a `--version` option that prints the version of an installed package and exits."""

    def show(asked: bool) -> None:
        if asked:
            typer.echo(f"{package} {version(package)}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="Print the version and exit.")


def variables_help(*classes: type[BaseSettings]) -> str:
    """Return the epilog of a command's help: the environment variable, description and default of each setting."""
    lines = []
    for settings in classes:
        for name, field in settings.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            end = "Required." if field.is_required() else f"Default: {'none' if default in (None, ()) else default}."
            lines.append(f"{settings.model_config['env_prefix']}{name.upper()}: {field.description} {end}")
    return "Environment variables:\n\n" + "\n\n".join(lines)


def read_settings(settings: type[_Settings], given: Mapping[str, object]) -> _Settings:
    """Return the settings from the command line (`given`) and the environment. The command line takes precedence.

    Args:
        settings: The class of the settings.
        given: The values from the command line by name. None means not given.

    Raises:
        InvalidArgument: A setting is invalid. The error names the first one.
    """
    try:
        return settings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise from_validation_error(first, first["loc"]) from error
