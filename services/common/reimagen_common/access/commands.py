"""The commands `keys add`, `keys list` and `keys revoke` of both services."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from reimagen_common.access.key_file import add_key, read_keys, revoke_key
from reimagen_common.access.keys import Key, make_key
from reimagen_common.access.rights import Right
from reimagen_common.command_line import report_errors
from reimagen_common.errors import InvalidArgument, from_validation_error

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def keys_commands(variable: str) -> typer.Typer:
    """Return the commands of a service.

    Args:
        variable: The environment variable that names the key file, such as `REIMAGEN_GENERATOR_KEYS`.
    """
    app = typer.Typer(
        help="Make, list and revoke API keys. Running services see the changes at once.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    file_option = typer.Option("--file", envvar=variable, metavar="FILE", help="File of the keys.")
    File = Annotated[Path, file_option]  # noqa: N806 - a type

    @app.command()
    def add(
        name: Annotated[str, typer.Argument(metavar="NAME", help="Name for people, such as that of the client.")],
        file: File,
        right: Annotated[
            list[Right] | None,
            typer.Option(help="Right of the key; repeat it for several [default: read and generate]."),
        ] = None,
        requests_per_minute: Annotated[
            int | None, typer.Option(min=1, help="Maximum number of requests a minute [default: no limit].")
        ] = None,
        images_per_day: Annotated[
            int | None, typer.Option(min=1, help="Maximum number of images a day [default: no limit].")
        ] = None,
        days: Annotated[int | None, typer.Option(min=1, help="Days until the key expires [default: never].")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Make a key and print it. It is shown only now: the file stores a hash of it."""
        with report_errors():
            try:
                key, stored = make_key(
                    name,
                    frozenset(right or (Right.READ, Right.GENERATE)),
                    requests_per_minute=requests_per_minute,
                    images_per_day=images_per_day,
                    expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) if days else None,
                )
            except ValidationError as error:
                first = error.errors()[0]
                raise from_validation_error(first, first["loc"]) from error
            except OverflowError as error:
                raise InvalidArgument("must be a date before the year 10000", field="days") from error
            add_key(file, stored)
            if as_json:
                typer.echo(json.dumps({"key": key} | _public(stored)))
                return
            typer.echo(key)
            typer.echo(f"The key {stored.id} is in {file}, as a hash. It is not shown again: store it now.", err=True)

    @app.command("list")
    def list_(file: File, as_json: AsJson = False) -> None:
        """Print all keys, without their secrets."""
        with report_errors():
            keys = read_keys(file).keys
            if as_json:
                typer.echo(json.dumps([_public(key) for key in keys], indent=1))
            else:
                Console().print(_table(keys))

    @app.command()
    def revoke(
        id: Annotated[str, typer.Argument(metavar="ID", help="Public id of the key, as `keys list` prints it.")],  # noqa: A002
        file: File,
        as_json: AsJson = False,
    ) -> None:
        """Remove a key. Running services refuse it at once."""
        with report_errors():
            revoked = revoke_key(file, id)
            typer.echo(json.dumps(_public(revoked)) if as_json else f"revoked the key {revoked.id} ({revoked.name})")

    return app


def _public(key: Key) -> dict[str, Any]:
    """Return what may be shown of a key."""
    return key.model_dump(mode="json", exclude={"sha256"})


def _table(keys: Iterable[Key]) -> Table:
    table = Table("id", "name", "rights", "requests/min", "images/day", "created", "expires")
    for key in keys:
        limits = ("none" if limit is None else f"{limit:,}" for limit in (key.requests_per_minute, key.images_per_day))
        expires = "never" if key.expires is None else f"{key.expires:%Y-%m-%d}"
        expires += " (expired)" if key.has_expired() else ""
        table.add_row(key.id, key.name, ", ".join(sorted(key.rights)), *limits, f"{key.created:%Y-%m-%d}", expires)
    return table
