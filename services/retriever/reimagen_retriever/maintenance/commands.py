"""The commands `reimagen-retriever compact`, `verify`, `snapshot`, `restore` and `union`."""

from pathlib import Path
from typing import Annotated

import typer

from reimagen_common.command_line import report_errors
from reimagen_retriever.arguments import KnowledgeBaseFolder
from reimagen_retriever.knowledge_base.manifest import Union, read_any
from reimagen_retriever.maintenance import compact as compacting
from reimagen_retriever.maintenance import snapshot as snapshots
from reimagen_retriever.maintenance.union import unite
from reimagen_retriever.maintenance.verify import verify as verified


def compact(knowledge_base: KnowledgeBaseFolder) -> None:
    """Free the space of pairs that were removed or replaced.

    The base is rewritten beside the old one, which needs as much disk space again, and replaced in one step. A service
    that serves the base continues meanwhile and then switches to the new files; until then it accepts no changes.
    """
    with report_errors():
        before = _bytes(knowledge_base)
        manifest = compacting.compact(knowledge_base)
        typer.echo(
            f"{knowledge_base}: {manifest.pairs:,} pairs, {before / 1e6:,.1f} MB before, "
            f"{_bytes(knowledge_base) / 1e6:,.1f} MB now, revision {manifest.revision}"
        )


def verify(knowledge_base: KnowledgeBaseFolder) -> None:
    """Check every pair against its checksum, and all counts; exit with status 2 if anything is damaged.

    A service may serve and write meanwhile. Each damage is printed to standard output with its location.
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
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="New or empty folder for the snapshot.")],
) -> None:
    """Save the current state of a knowledge base, while it is served and written to.

    On the same disk this takes almost no space: files that never change again are hard links. A snapshot is itself a
    knowledge base; `restore` replaces another one with it. A snapshot of a union includes its parts.
    """
    with report_errors():
        manifest = snapshots.snapshot(knowledge_base, destination)
        typer.echo(f"{destination}: {manifest.pairs:,} pairs, revision {manifest.revision}")


def restore(
    snapshot: Annotated[Path, typer.Argument(metavar="SNAPSHOT", help="Folder that `snapshot` wrote.")],
    knowledge_base: Annotated[
        Path, typer.Argument(metavar="KB_DIR", help="New folder, or a knowledge base to replace.")
    ],
) -> None:
    """Replace a knowledge base with a snapshot, in one step.

    Changes to KB_DIR since the snapshot are lost. A service that serves it switches to the snapshot automatically.
    """
    with report_errors():
        manifest = snapshots.restore(snapshot, knowledge_base)
        typer.echo(f"{knowledge_base}: {manifest.pairs:,} pairs, revision {manifest.revision}")


def union(
    folder: Annotated[Path, typer.Argument(metavar="UNION_DIR", help="New folder, or a union to replace.")],
    parts: Annotated[list[Path], typer.Argument(metavar="KB_DIR...", help="Two or more knowledge bases.")],
    near_duplicates: Annotated[
        bool, typer.Option(help="Find near-duplicates in different bases; searches then show only the best of them.")
    ] = True,
) -> None:
    """Combine several knowledge bases for reading as one: `serve UNION_DIR`, `search`, `describe`, `neighbors`.

    The bases stay where they are; UNION_DIR only names them. Results and scores are those of one base built from all
    pairs. No two bases may have a pair of the same id, and all must have been built with the same language, k1 and b.
    Dense search requires vectors of the same encoder in all bases.

    Make changes in the bases; a service sees them when this command is run again, or at its next start.
    """
    with report_errors():
        manifest = unite(folder, parts, near_duplicates=near_duplicates)
        typer.echo(f"{folder}: {len(parts)} knowledge bases, {manifest.pairs:,} pairs, revision {manifest.revision}")
        written = read_any(folder)
        if isinstance(written, Union) and written.duplicates:
            typer.echo(f"  {len(written.duplicates):,} pairs marked as near-duplicates of pairs in other bases")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("data-*/*/*"))
