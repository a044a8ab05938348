"""`reimagen-evaluate`: the steps from a benchmark's prompts to a page of results, one command each."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reimagen_common.addresses import hosts_of, read_address
from reimagen_common.command_line import report_errors, version_option
from reimagen_common.errors import InvalidArgument
from reimagen_evaluation.metric_commands import distances, reference_use, super_resolution
from reimagen_generator.generation.retriever_client import RetrieverClient

app = typer.Typer(
    help="""Measure a cascade: draw a benchmark under several settings, score the images, write a page of results.

All results are in one folder, OUT. Every step can be killed and run again:

\b
  reimagen-evaluate bench entity-draw-bench OUT      writes the prompts, OUT/items.jsonl
  reimagen-evaluate sweep SWEEP.toml OUT             draws the images, OUT/SETTING/
  reimagen-evaluate score OUT --judge entity=FOLDER  writes the scores, OUT/scores.csv
  reimagen-evaluate fid OUT REAL --features FILE     writes OUT/distances.csv
  reimagen-evaluate rate OUT                         serves a page for human ratings, OUT/ratings.csv
  reimagen-evaluate report OUT results.md            writes tables, plots and sheets""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def main(version: Annotated[bool, version_option("reimagen-evaluation")] = False) -> None:
    """Run before each command; the options of the program itself."""


app.command()(distances)
app.command()(super_resolution)
app.command()(reference_use)

_Out = Annotated[Path, typer.Argument(help="Folder of this evaluation.")]


class Bench(StrEnum):
    """A benchmark."""

    ENTITY_DRAW_BENCH = "entity-draw-bench"
    DREAM_BENCH = "dream-bench"
    COCO = "coco"
    WIKI_IMAGES = "wiki-images"


@app.command()
def bench(
    name: Annotated[Bench, typer.Argument(help="The benchmark.")],
    out: _Out,
    data: Annotated[
        Path | None,
        typer.Option(
            help="What to read. entity-draw-bench: a TOML file [default: the packaged file]; dream-bench: the folder "
            "dataset of google/dreambooth; coco: captions_val2014.json; wiki-images: the folder with "
            "WebQA_train_val.json."
        ),
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="entity-draw-bench: folder with a folder of images for each entity.")
    ] = None,
    frequencies: Annotated[
        Path | None,
        typer.Option(help="entity-draw-bench: CSV of entity,count; splits entities into frequent and infrequent."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="wiki-images: folder to write the real images to; FID needs them.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="coco, wiki-images: number of captions to draw.")] = 30_000,
    seed: Annotated[int, typer.Option(help="Seed for the choice of templates and captions.")] = 0,
) -> None:
    """Write a benchmark's prompts to OUT/items.jsonl."""
    with report_errors():
        from reimagen_evaluation.benches import coco, dream_bench, entity_draw_bench, items, wiki_images

        match name:
            case Bench.ENTITY_DRAW_BENCH:
                counts = None if frequencies is None else entity_draw_bench.read_frequencies(frequencies)
                file = entity_draw_bench.load(entity_draw_bench.OURS if data is None else data)
                bench_items = entity_draw_bench.items(file, seed=seed, references=references, frequencies=counts)
            case Bench.DREAM_BENCH:
                bench_items = dream_bench.items(_needed(data))
            case Bench.COCO:
                bench_items = coco.items(_needed(data), count=count, seed=seed)
            case Bench.WIKI_IMAGES:
                bench_items = wiki_images.items(_needed(data) / wiki_images.QUESTIONS, count=count, seed=seed)
                if images is not None:
                    wiki_images.write_images(_needed(data), images)
        out.mkdir(parents=True, exist_ok=True)
        items.write(bench_items, out / items.ITEMS)
        typer.echo(f"{out / items.ITEMS}: {len(bench_items):,} prompts, the first {bench_items[0].prompt!r}")


@app.command()
def sweep(
    description: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP",
            help="TOML file in the format of evaluation/sweep.py, or a protocol of the paper: fid, entity-draw-bench, "
            "dream-bench.",
        ),
    ],
    out: _Out,
    weights: Annotated[Path | None, typer.Option(help="Folder of the cascade; required for protocols.")] = None,
    neighbors: Annotated[
        str, typer.Option(help="Source of neighbors for protocols: none, references, or a knowledge base's name.")
    ] = "references",
    retriever: Annotated[
        list[str], typer.Option(help="NAME=host:port of a knowledge base that the sweep names; repeatable.")
    ] = [],  # noqa: B006
    batch: Annotated[int, typer.Option(min=1, help="Number of images drawn at once.")] = 4,
    text_encoder: Annotated[Path | None, typer.Option(help="Folder of the T5 encoder that the cascade needs.")] = None,
) -> None:
    """Draw the images of a sweep that are missing in OUT; a run that was killed resumes."""
    with report_errors(), _value_errors_as_invalid_arguments(), ExitStack() as closing:
        from reimagen_evaluation import sweep as sweeps
        from reimagen_evaluation.benches import items
        from reimagen_evaluation.grounding import Grounding
        from reimagen_evaluation.presets import PRESETS
        from reimagen_generator.jax_setup import keep_compiled

        if description in PRESETS:
            if weights is None:
                raise InvalidArgument("is required with the name of a protocol", field="weights")
            plan = PRESETS[description](weights, neighbors)
        else:
            plan = sweeps.load(Path(description))
        addresses = dict(_named(given, "retriever", "host:port") for given in retriever)
        for address in addresses.values():
            read_address(address, "retriever")
        connections = {name: RetrieverClient(address) for name, address in addresses.items()}
        for connection in connections.values():
            closing.callback(connection.close)
        known = items.read(out / items.ITEMS)
        keep_compiled()
        grounding = Grounding(known, connections)
        sweeps.draw(plan, known, out, grounding=grounding, batch_size=batch, text_encoder=text_encoder)


@app.command()
def score(
    out: _Out,
    judge: Annotated[
        list[str],
        typer.Option(
            help="NAME=FOLDER of the judge's weights; repeatable. entity: a classifier that was trained on a "
            "knowledge base; clip: CLIP-T and CLIP-I; dino: DINO."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Score the images that have no scores yet, and write OUT/scores.csv.

    One score needs no judge and is always written: the copy distance, the pixel distance to the nearest copy of a
    reference.
    """
    with report_errors(), _value_errors_as_invalid_arguments():
        from reimagen_evaluation import scoring
        from reimagen_evaluation import sweep as sweeps
        from reimagen_evaluation.benches import items
        from reimagen_evaluation.judges.registry import load_judge

        named = dict(_named(given, "judge", "FOLDER") for given in judge)
        judges = {name: load_judge(name, Path(folder)) for name, folder in named.items()}
        drawn, known = sweeps.stored(out), items.read(out / items.ITEMS)
        scoring.score_copies(out, drawn, known)
        scoring.score(out, drawn, known, judges)
        typer.echo(f"{out / scoring.SCORES} is written")


@app.command()
def fid(
    out: _Out,
    real: Annotated[Path, typer.Argument(help="Folder of real images, or of shards (*.tar).")],
    features: Annotated[
        Path, typer.Option(help="InceptionV3's safetensors file, or the folder of another feature network.")
    ],
    square: Annotated[
        int | None, typer.Option(min=32, help="Side in pixels to resize the middle square of every image to first.")
    ] = None,
    subset_size: Annotated[int, typer.Option(min=2, help="Images per subset of the kernel distance.")] = 1_000,
) -> None:
    """Measure the distance of each setting's images to real ones, for the report's tables; see also `distances`."""
    with report_errors(), _value_errors_as_invalid_arguments():
        from reimagen_evaluation import sets
        from reimagen_evaluation import sweep as sweeps
        from reimagen_evaluation.features.registry import load_features

        sets.measure(out, sweeps.stored(out), real, load_features(features), square=square, subset=subset_size)
        for name, distance in sorted(sets.read(out).items(), key=lambda row: row[1]):
            typer.echo(f"{distance:10.4f}  {name}")


@app.command()
def rate(
    out: _Out,
    setting: Annotated[
        list[str], typer.Option(help="Folder in OUT whose images are rated; repeatable [default: all].")
    ] = [],  # noqa: B006
    address: Annotated[str, typer.Option(help="host:port of the page.")] = "127.0.0.1:8010",
) -> None:
    """Serve a page on which people rate the images without seeing which setting drew them.

    Each rater sees the images in a different order. The server writes every rating to OUT/ratings.csv before the page
    shows the next image. `reimagen-evaluate score` adds the ratings to OUT/scores.csv.
    """
    with report_errors():
        import uvicorn

        from reimagen_common.http_hosts import HostGuard
        from reimagen_evaluation import sweep as sweeps
        from reimagen_evaluation.benches import items
        from reimagen_evaluation.rating.app import Session, create_app, questions

        host, port = read_address(address, "address")
        drawn = [name for name in sweeps.stored(out).folders() if (out / name).is_dir()]
        to_rate = questions(out, setting or drawn, items.read(out / items.ITEMS))
        typer.echo(f"{len(to_rate):,} images to rate at http://{address}, until Ctrl-C")
        page = HostGuard(create_app(Session(out, to_rate)), allowed=hosts_of(address, None, ()))
        uvicorn.run(page, host=host, port=port, log_level="warning")


@app.command()
def compare(
    out: _Out,
    first: Annotated[str, typer.Argument(help="Folder in OUT of the setting whose share is counted.")],
    second: Annotated[str, typer.Argument(help="Folder in OUT of the setting that it is compared with.")],
    count: Annotated[int, typer.Option(min=1, help="Number of prompts, the first that both have drawn.")] = 100,
    address: Annotated[str, typer.Option(help="host:port of the page.")] = "127.0.0.1:8010",
) -> None:
    """Serve a page on which people choose between two settings' images of a prompt, without seeing which is which.

    The pairs and the sides are in a different random order for each rater. The server writes every choice to
    OUT/preferences.csv before the page shows the next pair.
    """
    with report_errors():
        import uvicorn

        from reimagen_common.http_hosts import HostGuard
        from reimagen_evaluation.benches import items
        from reimagen_evaluation.rating.pairs import PairSession, create_app, pairs, preference
        from reimagen_evaluation.report.tables import format_estimate

        host, port = read_address(address, "address")
        to_compare = pairs(out, first, second, items.read(out / items.ITEMS), count)
        typer.echo(f"{first} is preferred to {second}: {format_estimate(preference(out, first, second))}")
        typer.echo(f"{len(to_compare):,} pairs to compare at http://{address}, until Ctrl-C")
        page = HostGuard(create_app(PairSession(out, (first, second), to_compare)), allowed=hosts_of(address, None, ()))
        uvicorn.run(page, host=host, port=port, log_level="warning")


@app.command()
def report(
    out: _Out,
    page: Annotated[Path, typer.Argument(help="Markdown file to write; images go to a folder of the same name.")],
) -> None:
    """Write a page of tables with intervals, plots and sheets, from OUT/scores.csv."""
    with report_errors():
        from reimagen_evaluation import sweep as sweeps
        from reimagen_evaluation.benches import items
        from reimagen_evaluation.report.page import write

        write(sweeps.stored(out), items.read(out / items.ITEMS), out, page)
        typer.echo(f"{page} is written")


def _named(given: str, field: str, what: str) -> tuple[str, str]:
    name, separator, value = given.partition("=")
    if not (separator and name and value):
        raise InvalidArgument(f"must be NAME={what}, got {given!r}", field=field)
    return name, value


def _needed(data: Path | None) -> Path:
    if data is None:
        raise InvalidArgument("is required for this benchmark", field="data")
    return data


@contextmanager
def _value_errors_as_invalid_arguments() -> Iterator[None]:
    """Convert the ValueErrors of the libraries below into InvalidArgument, which `report_errors` prints."""
    try:
        yield
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
