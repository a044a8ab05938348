"""What the commands print: results to standard output, everything else to standard error."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import typer
from pydantic import BaseModel
from rich.console import Console

from reimagen_client.errors import InvalidRequest, NotFound, ReimagenError, Unauthenticated
from reimagen_client.knowledge_models import Pair
from reimagen_client.models import Neighbor, NothingFound, RefusedPair

_USER_ERRORS: Final = (InvalidRequest, NotFound)


def out() -> Console:
    """Return the console of results. It is made anew because tests and shells replace standard output."""
    return Console(soft_wrap=True, highlight=False, markup=False)


def err() -> Console:
    """Return the console of progress and errors."""
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def report_errors() -> Iterator[None]:
    """Print an error as one sentence, without a traceback, and exit.

    The exit status is 2 for errors that the user must fix, 130 for Ctrl-C, and 1 for other failures.
    """
    try:
        yield
    except ReimagenError as error:
        advice = "; set REIMAGEN_API_KEY" if isinstance(error, Unauthenticated) else ""
        if error.retry_after:
            advice += f"; retry in {error.retry_after:.0f} s"
        typer.echo(f"error: {error.message}{advice}", err=True)
        raise typer.Exit(2 if isinstance(error, _USER_ERRORS) else 1) from error
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped", err=True)
        raise typer.Exit(130) from error


def print_json(value: object) -> None:
    """Print a result as JSON, without the contents of files."""
    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: object) -> Any:
    """Return a result as values of JSON, without the contents of files and without unset fields."""
    if isinstance(value, BaseModel):
        return plain({name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items() if one is not None and not isinstance(one, bytes)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(one) for one in value]
    return value


def print_neighbors(
    neighbors: Iterable[Neighbor | Pair], nothing: NothingFound | None, refused: Iterable[RefusedPair] = ()
) -> None:
    """Print one line for each neighbor, or the reason why there are none, and one for each that was left out."""
    for neighbor in neighbors:
        license_name = neighbor.license or "license unknown"
        cut_out = isinstance(neighbor, Neighbor) and neighbor.cut_out
        name = f"{neighbor.id}: {neighbor.caption} ({license_name})" if neighbor.id else neighbor.caption
        out().print(f"{name}, cut out" if cut_out else name)
        if isinstance(neighbor, Neighbor) and neighbor.warning:
            err().print(f"{neighbor.id or neighbor.caption}: {neighbor.warning}")
    if nothing:
        change = f" (change {nothing.field})" if nothing.field else ""
        err().print(f"no neighbors: {nothing.reason}{change}")
    for pair in refused:
        err().print(f"left out {pair.id}: {pair.reason}")


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values in two columns, without unset values."""
    width = max(map(len, fields))
    for name, value in fields.items():
        if value not in (None, "", False):
            out().print(f"{name:<{width}}  {value}")
