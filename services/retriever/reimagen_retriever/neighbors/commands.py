"""The command `reimagen-retriever neighbors`."""

from pathlib import Path
from typing import Annotated

import typer

from reimagen_common.command_line import report_errors
from reimagen_retriever.arguments import KnowledgeBaseFolder, Ray
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE, Relevance
from reimagen_retriever.neighbors.evaluation_sets import read_evaluation_set
from reimagen_retriever.neighbors.export import export
from reimagen_retriever.neighbors.pixels import LARGEST_SIDE
from reimagen_retriever.neighbors.shards import Options


def neighbors(
    knowledge_base: KnowledgeBaseFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of the shards; existing shards are kept.")],
    k: Annotated[int, typer.Option("-k", min=1, max=10, help="Maximum number of neighbors per pair.")] = 2,
    relevance: Annotated[
        Relevance, typer.Option(help="What a caption must share with the query, as in the service.")
    ] = DEFAULT_RELEVANCE,
    size: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=LARGEST_SIDE,
            help="Store squares with this side in pixels: the center of the image, neighbors uncropped [default: store "
            "the files].",
        ),
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="An evaluation set: a file with one caption per line, or a knowledge base. Fail on overlap with it. "
            "Repeatable.",
        ),
    ] = None,
    ray: Ray = None,
) -> None:
    """Write training shards: every pair of KB_DIR with its neighbors in KB_DIR.

    The caption of a pair is the query. The pair itself and near-duplicates of its image are left out. An interrupted
    run resumes when the same command is run again. --ray writes the same files.
    """
    with report_errors():
        options = Options(k, relevance, size)
        stats = export(knowledge_base, out, options, [read_evaluation_set(path) for path in exclude or ()], ray)
        typer.echo(f"{out}: {stats.count:,} pairs, {stats.with_all_neighbors:,} of them with {k} neighbors")
        typer.echo(f"  {stats.without_neighbors:,} without any neighbor")
        typer.echo(f"  {stats.near_duplicates:,} near-duplicates excluded as neighbors")
        typer.echo(f"  {stats.broken:,} left out because their images are broken")
