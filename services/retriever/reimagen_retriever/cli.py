"""The command line: build a knowledge base, look into it, serve it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reimagen_common.command_line import read_settings, report_errors, variables_help
from reimagen_retriever import tables
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE, Relevance
from reimagen_retriever.index.filters import Filters
from reimagen_retriever.ingest.build import BuildOptions
from reimagen_retriever.ingest.build import build as build_knowledge_base
from reimagen_retriever.ingest.filters import SourceFilters
from reimagen_retriever.knowledge_base.analysis import Analysis, Language
from reimagen_retriever.knowledge_base.manifest import Manifest
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.live.commands import add, remove
from reimagen_retriever.maintenance.commands import compact, restore, snapshot, union, verify
from reimagen_retriever.neighbors.evaluation_sets import read_evaluation_set
from reimagen_retriever.neighbors.export import export
from reimagen_retriever.neighbors.pixels import LARGEST_SIDE
from reimagen_retriever.neighbors.shards import Options
from reimagen_retriever.nothing_found import why
from reimagen_retriever.search import DEFAULT_K, Defaults, Method, Search, explain, find
from reimagen_retriever.settings import Settings
from reimagen_retriever.supervisor import run
from reimagen_retriever.vectors.make import make_vectors
from reimagen_retriever.vectors.precomputed import Of

app = typer.Typer(
    help="Knowledge bases of (image, text) pairs, found by Lucene's BM25 and served over gRPC.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_ANALYSIS = Analysis()
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Spread the work over a Ray cluster: host:port of its head, or `local` for this machine's cores in "
        "processes of their own. All machines need this program (with its extra `ray`), SOURCE or KB_DIR, and what is "
        "written, under the same paths.",
    ),
]
KnowledgeBaseFolder = Annotated[Path, typer.Argument(metavar="KB_DIR", help="Folder of the knowledge base.")]


@app.command()
def build(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="What to build from, see above.")],
    knowledge_base: Annotated[
        Path, typer.Argument(metavar="KB_DIR", help="Where to: a new folder, or a base to replace.")
    ],
    metadata: Annotated[
        str,
        typer.Option(
            metavar="PARQUET",
            help="LAION's Parquet (a file or a folder of them) that the shards were downloaded from: its columns join "
            "those of the shards, by SAMPLE_ID, else by address and caption.",
        ),
    ] = "",
    max_unsafe: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Leave out what is more likely unsafe, by LAION's punsafe, else by its NSFW, of which UNLIKELY counts "
            "0, UNSURE 0.5 and NSFW 1.",
        ),
    ] = None,
    max_watermark: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out what more likely has a watermark, by pwatermark.")
    ] = None,
    min_similarity: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Leave out pairs whose image and text agree less, by similarity."),
    ] = None,
    min_size: Annotated[
        int, typer.Option(min=0, help="Leave out images that are less wide or less high, in pixels.")
    ] = 0,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave out near-duplicates of earlier images, else marked.")
    ] = False,
    language: Annotated[
        Language, typer.Option(help="Of the captions, for their stems and stop words; zh and ko: pairs of characters.")
    ] = "en",
    k1: Annotated[float, typer.Option(min=0, help="Of BM25: how much repeating a word counts.")] = _ANALYSIS.k1,
    b: Annotated[
        float, typer.Option(min=0, max=1, help="Of BM25: how much long captions are held back.")
    ] = _ANALYSIS.b,
    ray: Ray = None,
) -> None:
    """Build a knowledge base from SOURCE, or replace the one in KB_DIR.

    SOURCE is a local path, or an address that fsspec reaches (s3://, gs://...), of one of

    - a folder of images with captions: `name.jpg` and `name.txt`, in subfolders if you like;

    - a folder with lists of captions, `captions.csv`, `.jsonl` or `.parquet` (or `metadata.*`, as Hugging Face's
    imagefolder has it, in each split's folder too), or one such list: columns `image` or `file_name` (a path relative
    to the list) and `caption` or `text`, and if you like `id`, `source`, `license`;

    - WebDataset shards as img2dataset writes them, with its Parquet beside them or without: one `.tar`, or a folder;
    LAION's columns (`punsafe`, `NSFW`...) are read from there, or from --metadata;

    - WebQA's `imgs.tsv`, `imgs.lineidx` and `WebQA_train_val.json`: WikiImages, filtered as the paper has it;

    - COCO's folder: `annotations/captions_*.json` and the images, each of which is one pair with all its captions.

    Everything in SOURCE that is no pair (a broken image, another file, what a filter leaves out...) is reported and
    counted; a pair that does not say what a filter asks for is left out too.

    Interrupted, a build goes on after its last full shard (10,000 pairs) when the same command is given again. The base
    in KB_DIR is replaced in one step at the end; a service that serves it goes over to the new one by itself.
    --ray builds the same base from WebDataset shards, each of which a worker reads and checks.
    """
    with report_errors():
        options = BuildOptions(
            analysis=Analysis(language=language, k1=k1, b=b),
            filters=SourceFilters(
                max_unsafe=max_unsafe, max_watermark=max_watermark, min_similarity=min_similarity, min_size=min_size
            ),
            drop_duplicates=drop_duplicates,
        )
        report = build_knowledge_base(open_source(source, metadata), knowledge_base, options, ray)
        typer.echo(f"{knowledge_base}: {_summary(report.manifest)}")
        if report.duplicates:
            typer.echo(f"  {report.duplicates:,} near-duplicates of earlier pairs, marked as such")


@app.command()
def vectors(
    knowledge_base: KnowledgeBaseFolder,
    encoder: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The encoder, see above; queries will be encoded with it too.")
    ],
    of: Annotated[
        Of | None, typer.Option(help="What of a pair to encode [default: images, if the encoder can].")
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Take vectors that this encoder has made before: `img_emb_0000.npy` (or `text_emb_0000.npy`) with "
            "`metadata_0000.parquet`, as LAION publishes them.",
        ),
    ] = None,
) -> None:
    """Make the vectors of a knowledge base, for searches by meaning: `--method dense` or `hybrid`.

    The encoder's FOLDER holds `tokenizer.json` and an ONNX model, `model.onnx` (a sentence encoder, with its
    `1_Pooling/config.json`) or `text_model.onnx` and `vision_model.onnx` with `preprocessor_config.json` (CLIP and its
    like), as Hugging Face's exporters leave them.

    Interrupted, it goes on where it was when it is called again. A service that serves the base goes over by itself.
    Building the base anew takes the vectors with it.
    """
    with report_errors():
        manifest = make_vectors(knowledge_base, encoder, of, given)
        typer.echo(f"{knowledge_base}: {_vectors_summary(manifest)}")


@app.command()
def search(
    knowledge_base: KnowledgeBaseFolder,
    query: Annotated[str, typer.Argument(help="Free text, usually a prompt.")],
    k: Annotated[int, typer.Option("-k", min=1, max=16, help="How many pairs at most.")] = DEFAULT_K,
    method: Annotated[Method, typer.Option(help="By words, by meaning (what `vectors` has made), or both.")] = "bm25",
    relevance: Annotated[Relevance | None, typer.Option(help="What a caption must have [default: entity].")] = None,
    minimum_score: Annotated[
        float | None, typer.Option(help="Leave out pairs of a lower score, by the method's score.")
    ] = None,
    minimum_cosine: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="The same by vectors; -1 shows them all [default: as `describe` tells]."),
    ] = None,
    per_entity: Annotated[
        bool, typer.Option("--per-entity", help="Find pairs of each thing that the query names, in turn.")
    ] = False,
    licenses: Annotated[
        list[str] | None, typer.Option("--license", help="Pairs under this license alone. Repeatable: any of them.")
    ] = None,
    sources: Annotated[
        list[str] | None, typer.Option("--source", help="Pairs whose source begins with this alone. Repeatable.")
    ] = None,
    minimum_side: Annotated[int, typer.Option(min=0, help="Pixels that an image's shorter side has at least.")] = 0,
    safe_only: Annotated[bool, typer.Option("--safe-only", help="Leave out what its source says is unsafe.")] = False,
    exclude_ids: Annotated[
        list[str] | None, typer.Option("--exclude-id", help="Leave this pair out. Repeatable.")
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Show all of nearly the same images, not the best alone.")
    ] = False,
    show_why: Annotated[bool, typer.Option("--explain", help="Tell what each term of the query adds.")] = False,
    encoder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the base's encoder is, if it was moved.")
    ] = None,
) -> None:
    """Search a knowledge base without a service."""
    with report_errors():
        filters = Filters(
            licenses=tuple(licenses or ()),
            sources=tuple(sources or ()),
            minimum_side=minimum_side,
            safe_only=safe_only,
            exclude_ids=tuple(exclude_ids or ()),
            keep_duplicates=keep_duplicates,
        )
        asked = Search(
            query,
            k,
            method=method,
            minimum_score=minimum_score,
            relevance=relevance,
            per_entity=per_entity,
            filters=filters,
        )
        asked.check()
        base = KnowledgeBase.open(knowledge_base, encoder, dense=method != "bm25")
        base.refuse_damage(vectors=method != "bm25")
        defaults = Defaults(DEFAULT_RELEVANCE, minimum_cosine)
        hits = find(base, asked, defaults)
        console = Console()
        if hits:
            console.print(tables.of_hits(hits))
        else:
            console.print(f"no neighbor: {why(base, asked, defaults).reason}", soft_wrap=True, markup=False)
        if show_why and hits:
            console.print(tables.of_explanations([explain(base, asked, hit) for hit in hits]))


@app.command()
def neighbors(
    knowledge_base: KnowledgeBaseFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the shards; those already there are kept.")],
    k: Annotated[int, typer.Option("-k", min=1, max=10, help="How many neighbors of a pair at most.")] = 2,
    relevance: Annotated[Relevance, typer.Option(help="As the service has it.")] = DEFAULT_RELEVANCE,
    size: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=LARGEST_SIDE,
            help="Store squares of so many pixels a side: the image's middle, neighbors whole [default: the files].",
        ),
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="An evaluation set, captions one a line or a knowledge base: overlap with it is refused. Repeatable.",
        ),
    ] = None,
    ray: Ray = None,
) -> None:
    """Write training shards: every pair of KB_DIR with its neighbors in it.

    A pair's caption is the query; itself and near-duplicates of its image are left out. Interrupted, it goes on where
    it was when it is called again. --ray writes the same files.
    """
    with report_errors():
        options = Options(k, relevance, size)
        stats = export(knowledge_base, out, options, [read_evaluation_set(path) for path in exclude or ()], ray)
        typer.echo(f"{out}: {stats.count:,} pairs, {stats.with_all_neighbors:,} of them with {k} neighbors")
        typer.echo(f"  {stats.without_neighbors:,} without any neighbor")
        typer.echo(f"  {stats.near_duplicates:,} near-duplicates that were no neighbors")
        typer.echo(f"  {stats.broken:,} left out, their images being broken")


@app.command()
def describe(knowledge_base: KnowledgeBaseFolder) -> None:
    """Tell what a knowledge base holds."""
    with report_errors():
        base = KnowledgeBase.open(knowledge_base)
        manifest = base.manifest
        base.close()
        typer.echo(f"{knowledge_base}: {_summary(manifest)}")
        typer.echo(f"built {manifest.created:%Y-%m-%d %H:%M} UTC, format version {manifest.format_version}")
        if manifest.vectors:
            typer.echo(_vectors_summary(manifest))
        if base.dense and base.dense.added:
            typer.echo(
                f"  and {base.dense.added:,} of pairs that were added since; `compact` takes them into the index"
            )


@app.command(epilog=variables_help(Settings))
def serve(
    knowledge_base: Annotated[
        str | None,
        typer.Argument(
            metavar="KB_DIR",
            help="Folder of the knowledge base, or the address of one in an object store; else "
            "$REIMAGEN_RETRIEVER_KNOWLEDGE_BASE.",
        ),
    ] = None,
    grpc: Annotated[
        str | None, typer.Option(help="host:port of the gRPC service [default: 127.0.0.1:50051]; port 0 takes any.")
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(help="host:port of REST, health and metrics, such as 127.0.0.1:8001 [default: none]."),
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="Where answers are cached, such as redis://127.0.0.1:6379/0 [default: nowhere].")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that serve, on the same ports [default: 1].")
    ] = None,
) -> None:
    """Serve a knowledge base over gRPC, and over REST if --http is given, until SIGTERM or Ctrl-C.

    At an address that fsspec reaches (s3://, gs://, http://...) lies a snapshot, or a copy of one. Its index is brought
    to local disk at the start; images are read when they are found, and the last used are kept. It can't be changed.

    Over --http, /docs lists the requests, /readyz answers 200 once searches are welcome, /healthz tells how the service
    is doing, and /metrics is for Prometheus. There is no authentication: put a proxy in front of what others can reach.
    """
    given = {
        "knowledge_base": knowledge_base,
        "grpc": grpc,
        "http": http,
        "redis_url": redis_url,
        "processes": processes,
    }
    with report_errors():
        run(read_settings(Settings, given))


for _command in (add, remove, compact, verify, snapshot, restore, union):
    app.command()(_command)


def _vectors_summary(manifest: Manifest) -> str:
    made = manifest.vectors
    assert made
    return (
        f"vectors of {made.pairs:,} {made.of}, {made.dimension:,} dimensions, {made.kind} index, "
        f"by {made.encoder} ({made.encoder_digest}); a neighbor from cosine {made.minimum_cosine:.3f} up"
    )


def _summary(manifest: Manifest) -> str:
    size = sum(shard.size for shard in manifest.shards) / 1e6
    lines = [f"{manifest.pairs:,} pairs, shards of {size:,.1f} MB, revision {manifest.revision}"]
    lines += [f"  {count:,} under {name or 'an unknown license'}" for name, count in manifest.licenses.items()]
    if manifest.rejected:
        lines.append(f"  {sum(manifest.rejected.values()):,} entries of the source left out:")
        lines += [f"    {count:>9,}  {reason}" for reason, count in manifest.rejected.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
