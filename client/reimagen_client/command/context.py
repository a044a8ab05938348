"""Options that commands share."""

from typing import Annotated

import typer

from reimagen_client import Client

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def client_of(context: typer.Context) -> Client:
    """Return the client of the program's options.

    Raises:
        InvalidRequest: The URL or the key is invalid.
    """
    base_url: str | None = context.obj
    return Client(base_url)
