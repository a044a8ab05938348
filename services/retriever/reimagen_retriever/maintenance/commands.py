"""`reimagen-retriever compact`, `verify`, `snapshot`, `restore` and `union`."""

from pathlib import Path
from typing import Annotated

import typer

from reimagen_common.command_line import report_errors
from reimagen_retriever.knowledge_base.manifest import Union, read_any
from reimagen_retriever.maintenance import compact as compacting
from reimagen_retriever.maintenance import snapshot as snapshots
from reimagen_retriever.maintenance.union import unite
from reimagen_retriever.maintenance.verify import verify as verified

KnowledgeBaseFolder = Annotated[Path, typer.Argument(metavar="KB_DIR", help="Folder of the knowledge base.")]


def compact(knowledge_base: KnowledgeBaseFolder) -> None:
    """Give back the space of pairs that were removed or replaced.

    The base is written anew beside the old one, which needs as much room again, and replaced in one step. A service
    that serves it goes on meanwhile and then goes over to the new files by itself; until then it takes no changes.
    """
    with report_errors():
        before = _bytes(knowledge_base)
        manifest = compacting.compact(knowledge_base)
        typer.echo(
            f"{knowledge_base}: {manifest.pairs:,} pairs, {before / 1e6:,.1f} MB before, "
            f"{_bytes(knowledge_base) / 1e6:,.1f} MB now, revision {manifest.revision}"
        )


def verify(knowledge_base: KnowledgeBaseFolder) -> None:
    """Check every pair against its checksum, and all counts; exit with 2 if anything is damaged.

    A service may go on serving and writing meanwhile. What is damaged is told by its location on standard output.
    """
    with report_errors():
        manifest, damages = verified(knowledge_base)
        for damage in damages:
            typer.echo(f"{damage.location}: {damage.what}")
        end = f"{len(damages):,} damages" if damages else "all is as it was written"
        typer.echo(f"{knowledge_base}: {manifest.pairs:,} pairs of revision {manifest.revision}, {end}")
        if damages:
            raise typer.Exit(2)


def snapshot(
    knowledge_base: KnowledgeBaseFolder,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new or empty folder.")],
) -> None:
    """Keep a knowledge base as it is now, while it is served and written to.

    On the same disk this takes next to no room: files that never change again are hard links. A snapshot is a
    knowledge base itself; `restore` puts it in the place of another. A snapshot of a union has its parts in it.
    """
    with report_errors():
        manifest = snapshots.snapshot(knowledge_base, destination)
        typer.echo(f"{destination}: {manifest.pairs:,} pairs, revision {manifest.revision}")


def restore(
    snapshot: Annotated[Path, typer.Argument(metavar="SNAPSHOT", help="What `snapshot` made.")],
    knowledge_base: Annotated[
        Path, typer.Argument(metavar="KB_DIR", help="Where to: a new folder, or a base to replace.")
    ],
) -> None:
    """Put a snapshot in the place of a knowledge base, in one step.

    What was added to KB_DIR since is lost. A service that serves it goes over to the snapshot by itself.
    """
    with report_errors():
        manifest = snapshots.restore(snapshot, knowledge_base)
        typer.echo(f"{knowledge_base}: {manifest.pairs:,} pairs, revision {manifest.revision}")


def union(
    folder: Annotated[Path, typer.Argument(metavar="UNION_DIR", help="Where to: a new folder, or a union to replace.")],
    parts: Annotated[list[Path], typer.Argument(metavar="KB_DIR...", help="The knowledge bases, two or more.")],
    near_duplicates: Annotated[
        bool, typer.Option(help="Look for nearly the same images in different bases, of which the best is shown.")
    ] = True,
) -> None:
    """Make several knowledge bases one, for reading: `serve UNION_DIR`, `search`, `describe`, `neighbors`.

    The bases stay where they are, and UNION_DIR holds no more than their names. What is found, and its scores, are
    those of one base built of all pairs. No two bases may have a pair of the same id, and all must have been built
    with the same language, k1 and b. Searches by vectors need those of one encoder in all of them.

    Changes go to the bases; a service takes them up when this command is called again, or at its next start.
    """
    with report_errors():
        manifest = unite(folder, parts, near_duplicates=near_duplicates)
        typer.echo(f"{folder}: {len(parts)} knowledge bases, {manifest.pairs:,} pairs, revision {manifest.revision}")
        made = read_any(folder)
        if isinstance(made, Union) and made.duplicates:
            typer.echo(f"  {len(made.duplicates):,} near-duplicates of pairs of other bases, marked as such")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("data-*/*/*"))
