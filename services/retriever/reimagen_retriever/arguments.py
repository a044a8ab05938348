"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Spread the work over a Ray cluster: host:port of its head, or `local` for one process per core of this "
        "machine. All machines need this program (with the extra `ray`) and must reach the input and output folders "
        "under the same paths.",
    ),
]
KnowledgeBaseFolder = Annotated[Path, typer.Argument(metavar="KB_DIR", help="Folder of the knowledge base.")]
