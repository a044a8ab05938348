"""The commands of `reimagen`."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from reimagen_client import provenance
from reimagen_client.command.context import AsJson, client_of
from reimagen_client.command.generate import generate
from reimagen_client.command.jobs import jobs
from reimagen_client.command.output import err, out, print_fields, print_json, print_neighbors, report_errors
from reimagen_client.models import Verification
from reimagen_client.options import Method

_VARIABLES = (
    "Environment variables: REIMAGEN_BASE_URL and REIMAGEN_API_KEY, else OPENAI_BASE_URL with OPENAI_API_KEY. A key is "
    "not an option, because other users of the machine could read it there."
)

app = typer.Typer(
    help="Draw images that are grounded on a knowledge base, by a running generator.",
    epilog=_VARIABLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(generate)
app.add_typer(jobs, name="jobs")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"reimagen-client {version('reimagen-client')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    base_url: Annotated[
        str | None, typer.Option(help="URL of the service [default: http://127.0.0.1:8000/v1].", show_default=False)
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run before each command; the options of the program itself."""
    context.obj = base_url


@app.command()
def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="Free text, usually a prompt.")],
    k: Annotated[int, typer.Option("-k", help="Maximum number of neighbors, 1 to 16.")] = 5,
    method: Annotated[Method, typer.Option(help="Search by words, by vectors, or by both.")] = "bm25",
    as_json: AsJson = False,
) -> None:
    """Search the knowledge base."""
    with report_errors(), client_of(context) as client:
        found = client.knowledge.search(query, k=k, method=method)
        if as_json:
            print_json(found)
        else:
            print_neighbors(found.neighbors, found.nothing_found)


@app.command()
def add(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="Image file.")],
    caption: Annotated[str, typer.Argument(help="What the image shows.")],
    pair_id: Annotated[str | None, typer.Option("--id", help="Id of the pair [default: from the image].")] = None,
    source: Annotated[str, typer.Option(help="Origin of the image.")] = "",
    license_name: Annotated[str, typer.Option("--license", help="SPDX identifier or name of the license.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a pair to the knowledge base, or replace the one with the same id."""
    with report_errors(), client_of(context) as client:
        ids = [] if pair_id is None else [pair_id]
        added = client.knowledge.add([image], [caption], ids=ids, source=source, license=license_name)
        if as_json:
            print_json(added)
        else:
            done = "added" if added.added else "replaced" if added.updated else "unchanged"
            out().print(f"{added.ids[0]}: {done}")


@app.command()
def remove(context: typer.Context, pair_id: Annotated[str, typer.Argument(help="Id of the pair.")]) -> None:
    """Remove a pair from the knowledge base."""
    with report_errors(), client_of(context) as client:
        removed = client.knowledge.remove(pair_id)
        out().print(f"{pair_id}: removed")
        if removed.uses and removed.uses.images:
            jobs = ", ".join(job.id for job in removed.uses.jobs)
            err().print(f"kept images that are grounded on it: {removed.uses.images}{f' ({jobs})' if jobs else ''}")


@app.command()
def inspect(
    image: Annotated[Path, typer.Argument(help="Image file that Re-Imagen drew.")], as_json: AsJson = False
) -> None:
    """Print the provenance in an image file. It needs no service, and does not say whether the file is genuine."""
    with report_errors():
        origin = provenance.inspect(image)
        if as_json:
            print_json(origin)
            return
        print_fields({name: getattr(origin, name) for name in ("prompt", "seed", "size", "cascade", "quality")})
        print_neighbors(origin.neighbors, None)


@app.command()
def verify(
    context: typer.Context, image: Annotated[Path, typer.Argument(help="Image file.")], as_json: AsJson = False
) -> None:
    """Ask the service whether an image file is genuine, and where it comes from.

    The exit status is 1 if the file was changed, its signature is invalid, or nothing is known about it.
    """
    with report_errors(), client_of(context) as client:
        found = client.verify(image)
    if as_json:
        print_json(found)
    else:
        _print_verification(found)
    if found.tampered or found.signature.status == "invalid" or found.generation is None:
        raise typer.Exit(1)


def _print_verification(found: Verification) -> None:
    signature, origin = found.signature, found.generation
    by = f" by {signature.signer}" if signature.signer else ""
    print_fields(
        {
            "signature": f"{signature.status}{by}{f': {signature.reason}' if signature.reason else ''}",
            "signed": signature.time,
            "changed": {True: "yes", False: "no", None: "unknown"}[found.tampered],
            "watermark": found.watermark and (found.watermark.id or "without a readable id"),
            "stated": ", ".join(f"{one.algorithm} {one.value}" for one in found.soft_bindings),
            "found by": found.found_by,
            "prompt": origin and origin.prompt,
            "seed": origin and origin.seed,
            "cascade": origin and origin.model,
        }
    )
    if origin is None:
        err().print("nothing is known about this file")
    else:
        print_neighbors(origin.neighbors, None)


@app.command("cut-out")
def cut_out(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="Image file, such as a photograph.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG file for the object on a plain ground.")],
) -> None:
    """Cut the object of an image out, as `generate --cut-out` does. The exit status is 1 if nothing was found."""
    with report_errors(), client_of(context) as client:
        cut = client.cut_out(image)
        if cut.image is None:
            err().print(f"{image}: {cut.warning}")
            raise typer.Exit(1)
        output.write_bytes(cut.image)
        out().print(str(output))


@app.command()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the loaded cascades and their sizes."""
    with report_errors(), client_of(context) as client:
        found = client.models()
        if as_json:
            print_json(found)
        for model in () if as_json else found:
            out().print(f"{model.id}: {', '.join(model.sizes) or 'sizes unknown'}")
