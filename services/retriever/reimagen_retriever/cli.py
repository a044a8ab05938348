"""The command line: build, inspect, change and serve knowledge bases."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reimagen_common.access.commands import keys_commands
from reimagen_common.command_line import read_settings, report_errors, variables_help, version_option
from reimagen_retriever import tables
from reimagen_retriever.arguments import KnowledgeBaseFolder, Ray
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
from reimagen_retriever.neighbors.commands import neighbors
from reimagen_retriever.nothing_found import explain_empty
from reimagen_retriever.search import DEFAULT_K, Defaults, Method, Search, explain, find
from reimagen_retriever.settings import Settings
from reimagen_retriever.supervisor import run
from reimagen_retriever.vectors.make import make_vectors
from reimagen_retriever.vectors.precomputed import Of

app = typer.Typer(
    help="Build, search and serve knowledge bases of (image, caption) pairs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(keys_commands("REIMAGEN_RETRIEVER_KEYS"), name="keys")


@app.callback()
def main(version: Annotated[bool, version_option("reimagen-retriever")] = False) -> None:
    """Run before each command; the options of the program itself."""


_ANALYSIS = Analysis()


@app.command()
def build(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source to build from, see above.")],
    knowledge_base: Annotated[
        Path, typer.Argument(metavar="KB_DIR", help="Output folder: a new folder, or a base to replace.")
    ],
    metadata: Annotated[
        str,
        typer.Option(
            metavar="PARQUET",
            help="LAION's Parquet (a file or a folder of files) that the shards were downloaded from. Its columns are "
            "joined to those of the shards by SAMPLE_ID, else by URL and caption.",
        ),
    ] = "",
    max_unsafe: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Leave out images with a higher probability of being unsafe: LAION's punsafe, else its NSFW, where "
            "UNLIKELY counts 0, UNSURE 0.5 and NSFW 1.",
        ),
    ] = None,
    max_watermark: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Leave out images with a higher probability of a watermark (pwatermark)."),
    ] = None,
    min_similarity: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Leave out pairs with a lower image-caption similarity (similarity)."),
    ] = None,
    min_size: Annotated[
        int, typer.Option(min=0, help="Leave out images whose width or height is smaller, in pixels.")
    ] = 0,
    drop_duplicates: Annotated[
        bool,
        typer.Option("--drop-duplicates", help="Leave out near-duplicates of earlier images instead of marking them."),
    ] = False,
    language: Annotated[
        Language,
        typer.Option(help="Language of the captions: selects stemming and stop words; zh and ko use character pairs."),
    ] = "en",
    k1: Annotated[float, typer.Option(min=0, help="BM25's k1: the weight of repeated words.")] = _ANALYSIS.k1,
    b: Annotated[float, typer.Option(min=0, max=1, help="BM25's b: the penalty for long captions.")] = _ANALYSIS.b,
    ray: Ray = None,
) -> None:
    """Build a knowledge base from SOURCE, or replace the one in KB_DIR.

    SOURCE is a local path, or an address that fsspec supports (s3://, gs://...), of one of:

    - a folder of images with captions: `name.jpg` and `name.txt`, subfolders included;

    - a folder with caption lists, `captions.csv`, `.jsonl` or `.parquet` (or `metadata.*`, as in Hugging Face's
    imagefolder, also in the folder of each split), or a single list. Columns: `image` or `file_name` (a path relative
    to the list), `caption` or `text`, and optionally `id`, `source`, `license`;

    - WebDataset shards as img2dataset writes them, with or without its Parquet: one `.tar`, or a folder.
    LAION's columns (`punsafe`, `NSFW`...) are read from the shards or from --metadata;

    - WebQA's `imgs.tsv`, `imgs.lineidx` and `WebQA_train_val.json`: WikiImages, filtered as in the paper;

    - COCO's folder: `annotations/captions_*.json` and the images. Each image becomes one pair with all its captions.

    Every entry of SOURCE that cannot become a pair (a broken image, another file, a filtered entry...) is reported and
    counted. A pair that lacks a value that a filter needs is left out too.

    An interrupted build continues after its last full shard (10,000 pairs) when the same command is run again. The
    base in KB_DIR is replaced in one step at the end; a running service switches to it automatically.
    --ray builds the same base from WebDataset shards: each worker reads and checks whole shards.
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
        Path, typer.Option(metavar="FOLDER", help="The encoder, see above. It also encodes the queries.")
    ],
    of: Annotated[
        Of | None, typer.Option(help="The part of a pair to encode [default: images, if the encoder can].")
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of vectors that this encoder has already computed: `img_emb_0000.npy` (or "
            "`text_emb_0000.npy`) with `metadata_0000.parquet`, as LAION publishes them.",
        ),
    ] = None,
) -> None:
    """Compute the vectors of a knowledge base, for `--method dense` or `hybrid`.

    The encoder's FOLDER holds `tokenizer.json` and an ONNX model: `model.onnx` (a sentence encoder, with its
    `1_Pooling/config.json`), or `text_model.onnx` and `vision_model.onnx` with `preprocessor_config.json` (CLIP and
    similar models), as Hugging Face's exporters write them.

    An interrupted run resumes when the same command is run again. A running service switches to the vectors
    automatically. `build` removes the vectors of a base that it replaces; run this command again afterwards.
    """
    with report_errors():
        manifest = make_vectors(knowledge_base, encoder, of, given)
        typer.echo(f"{knowledge_base}: {_vectors_summary(manifest)}")


@app.command()
def search(
    knowledge_base: KnowledgeBaseFolder,
    query: Annotated[str, typer.Argument(help="Free text, usually a prompt.")],
    k: Annotated[int, typer.Option("-k", min=1, max=16, help="Maximum number of pairs.")] = DEFAULT_K,
    method: Annotated[
        Method, typer.Option(help="Search by words (bm25), by the vectors that `vectors` has made (dense), or by both.")
    ] = "bm25",
    relevance: Annotated[
        Relevance | None, typer.Option(help="What a caption must share with the query [default: entity].")
    ] = None,
    minimum_score: Annotated[
        float | None, typer.Option(help="Leave out pairs with a lower score of the method.")
    ] = None,
    minimum_cosine: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="Leave out pairs with a lower cosine; -1 shows all [default: the value that `describe` prints].",
        ),
    ] = None,
    per_entity: Annotated[
        bool, typer.Option("--per-entity", help="Find pairs of each entity that the query names, in turn.")
    ] = False,
    licenses: Annotated[
        list[str] | None, typer.Option("--license", help="Only pairs under this license. Repeatable: any of them.")
    ] = None,
    sources: Annotated[
        list[str] | None, typer.Option("--source", help="Only pairs whose source begins with this. Repeatable.")
    ] = None,
    minimum_side: Annotated[int, typer.Option(min=0, help="Minimum length of an image's shorter side, in pixels.")] = 0,
    safe_only: Annotated[
        bool, typer.Option(help="Leave out pairs that their source marks as not safe for work.")
    ] = True,
    exclude_ids: Annotated[
        list[str] | None, typer.Option("--exclude-id", help="Leave out the pair with this id. Repeatable.")
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Show all near-duplicates of an image, not only the best.")
    ] = False,
    show_why: Annotated[
        bool, typer.Option("--explain", help="Show what each term of the query adds to the score.")
    ] = False,
    encoder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The folder of the base's encoder, if it was moved.")
    ] = None,
) -> None:
    """Search a knowledge base on disk, without a running service."""
    with report_errors():
        filters = Filters(
            licenses=tuple(licenses or ()),
            sources=tuple(sources or ()),
            minimum_side=minimum_side,
            safe_only=safe_only,
            exclude_ids=tuple(exclude_ids or ()),
            keep_duplicates=keep_duplicates,
        )
        request = Search(
            query,
            k,
            method=method,
            minimum_score=minimum_score,
            relevance=relevance,
            per_entity=per_entity,
            filters=filters,
        )
        request.check()
        base = KnowledgeBase.open(knowledge_base, encoder, dense=method != "bm25")
        base.refuse_damage(vectors=method != "bm25")
        defaults = Defaults(DEFAULT_RELEVANCE, minimum_cosine)
        hits = find(base, request, defaults)
        console = Console()
        if hits:
            console.print(tables.of_hits(hits))
        else:
            console.print(f"no neighbor: {explain_empty(base, request, defaults).reason}", soft_wrap=True, markup=False)
        if show_why and hits:
            console.print(tables.of_explanations([explain(base, request, hit) for hit in hits]))


app.command()(neighbors)


@app.command()
def describe(knowledge_base: KnowledgeBaseFolder) -> None:
    """Show what a knowledge base holds."""
    with report_errors():
        base = KnowledgeBase.open(knowledge_base)
        manifest = base.manifest
        base.close()
        typer.echo(f"{knowledge_base}: {_summary(manifest)}")
        typer.echo(f"built {manifest.created:%Y-%m-%d %H:%M} UTC, format version {manifest.format_version}")
        typer.echo(f"last written by Lucene {' and '.join(base.lucene_versions)}")
        if manifest.vectors:
            typer.echo(_vectors_summary(manifest))
        if base.dense and base.dense.added:
            typer.echo(
                f"  and {base.dense.added:,} of pairs that were added later; `compact` moves them into the index"
            )


@app.command(epilog=variables_help(Settings))
def serve(
    knowledge_base: Annotated[
        str | None,
        typer.Argument(
            metavar="KB_DIR",
            help="Folder of the knowledge base, or its address in an object store [default: "
            "$REIMAGEN_RETRIEVER_KNOWLEDGE_BASE].",
        ),
    ] = None,
    grpc: Annotated[
        str | None,
        typer.Option(help="host:port of the gRPC service; port 0 picks a free port [default: 127.0.0.1:50051]."),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(help="host:port of REST, health and metrics, such as 127.0.0.1:8001 [default: none]."),
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="Redis URL of the cache, such as redis://127.0.0.1:6379/0 [default: no cache].")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Number of serving processes on the same ports [default: 1].")
    ] = None,
) -> None:
    """Serve a knowledge base over gRPC, and over REST if --http is given, until SIGTERM or Ctrl-C.

    KB_DIR may be an address that fsspec supports (s3://, gs://, http://...) of a snapshot. The index is copied to local
    disk at the start. Images are read when they are found, and the most recently used ones are cached. Such a base is
    read-only.

    With --http, /docs documents the REST API, /readyz returns 200 once the service accepts searches, /healthz returns
    the health of the service, and /metrics serves Prometheus. A service that other machines can reach needs API keys:
    see the command `keys`.
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
    built = manifest.vectors
    assert built
    return (
        f"vectors of {built.pairs:,} {built.of}, {built.dimension:,} dimensions, {built.kind} index, "
        f"by {built.encoder} ({built.encoder_digest}); minimum cosine of a neighbor {built.minimum_cosine:.3f}"
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
