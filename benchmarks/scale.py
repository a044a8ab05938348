"""The requirements of a knowledge base of LAION-400M's size: disk, memory, hours, machines and cost.

They are computed from rates measured here. Every rate is an input with a default; prices are assumptions. To set your
own:

    python -m benchmarks.scale pairs=2e9 price_core_hour=0.03
"""

import sys
from dataclasses import dataclass, fields, replace

HOURS_A_MONTH = 730.0


@dataclass(frozen=True)
class Inputs:
    """The inputs of the table."""

    pairs: float = 400e6
    """Number of pairs, LAION-400M's by default; many of these images can no longer be downloaded."""
    image_bytes: float = 25e3
    """Bytes per image; LAION's own figure for 256 pixels is 10 TB in total."""
    group_pairs: float = 1e6
    """Pairs in each of the bases that are built separately and united: 100 of img2dataset's shards."""
    cores: float = 64
    """Number of cores that build and find neighbors."""
    searches_a_second: float = 1_000
    cache_hits: float = 0
    """Share of searches that Redis answers."""
    replica_cores: float = 16
    busy: float = 0.6
    """Share of a replica's cores that searches may use, so that latency stays near that of a single search."""

    # Measured here; see docs/how-to/scale.md.
    index_bytes: float = 460
    """Bytes of index per pair, by benchmarks.spread."""
    build_core_ms: float = 1.0
    """Milliseconds to build a pair: 0.58 + 0.25 by benchmarks.spread, and near-duplicates among a million images."""
    neighbors_core_ms: float = 2.4
    """Milliseconds to find a pair's neighbors in a small base, by benchmarks.spread, with images of 64 pixels."""
    neighbors_alone_ms: float = 0.16
    """Milliseconds per pair in the process that was started, by benchmarks.spread."""
    ranking_ms_a_million: float = 0.46
    """Extra milliseconds of a pair's neighbors per million captions, by benchmarks.bm25.top_neighbors."""
    call_core_ms: float = 1.7
    """Milliseconds of a search over gRPC in a small base, by benchmarks.retrieval: 1,175 a second on 2 cores."""
    search_ms_a_million: float = 0.182
    """Extra milliseconds of a search per million pairs, by benchmarks.bm25.growth: 1.15 ms at 4M, 2.24 at 10M."""
    process_megabytes: float = 700
    """Memory of a serving process besides the index: Java's heap of 512 MB, and Python."""

    # Assumed: list prices differ by provider, region and year.
    price_core_hour: float = 0.04
    """Dollars per core and hour of a general purpose machine with 4 GB per core."""
    price_store_gigabyte_month: float = 0.023
    """Dollars per gigabyte and month of an object store."""
    price_disk_gigabyte_month: float = 0.08
    """Dollars per gigabyte and month of a replica's disk."""
    memory_gigabytes_a_core: float = 4


def table(given: Inputs) -> list[tuple[str, str, str]]:
    """Return the rows of the table: what, how much, and how it is computed."""
    images = given.pairs * given.image_bytes
    index = given.pairs * given.index_bytes
    build = given.pairs * given.build_core_ms / 3.6e6
    search_ms = given.call_core_ms + given.search_ms_a_million * given.pairs / 1e6
    grouped_ms = given.neighbors_core_ms + given.ranking_ms_a_million * given.group_pairs / 1e6
    whole_ms = given.neighbors_core_ms + given.ranking_ms_a_million * given.pairs / 1e6
    grouped, whole = (given.pairs * ms / 3.6e6 for ms in (grouped_ms, whole_ms))
    busy_cores = given.searches_a_second * (1 - given.cache_hits) * search_ms / 1e3
    replicas = max(2, -(-busy_cores // (given.replica_cores * given.busy)))
    memory = index / 1e9 + given.replica_cores * given.process_megabytes / 1e3
    serving_cores = replicas * max(given.replica_cores, memory / given.memory_gigabytes_a_core)
    compute = serving_cores * given.price_core_hour * HOURS_A_MONTH
    store = (images + index) / 1e9 * given.price_store_gigabyte_month
    disk = replicas * index / 1e9 * given.price_disk_gigabyte_month
    bandwidth = images / (build / given.cores * 3600) / 1e9
    return [
        ("bases", f"{-(-given.pairs // given.group_pairs):,.0f}", "pairs / group_pairs"),
        ("images", f"{images / 1e12:,.1f} TB", "pairs x image_bytes"),
        ("index", f"{index / 1e9:,.0f} GB", "pairs x index_bytes"),
        ("build", f"{build:,.0f} core hours", "pairs x build_core_ms"),
        ("", f"{build / given.cores:,.1f} hours on {given.cores:,.0f} cores", "if the store keeps up with them:"),
        ("", f"{bandwidth:,.1f} GB/s", "read, and as much written"),
        ("", f"{build * given.price_core_hour:,.0f} $", "once"),
        ("neighbors", f"{grouped:,.0f} core hours", "each group's in itself"),
        ("", f"{grouped / given.cores:,.1f} hours on {given.cores:,.0f} cores", ""),
        ("neighbors", f"{whole:,.0f} core hours", "in the union of all"),
        ("", f"{whole / given.cores:,.0f} hours on {given.cores:,.0f} cores", ""),
        ("", f"{given.pairs * given.neighbors_alone_ms / 3.6e6:,.0f} hours", "of them alone, at least"),
        ("a search", f"{search_ms:,.0f} ms of a core", "call_core_ms + search_ms_a_million x millions"),
        ("busy", f"{busy_cores:,.0f} cores", "searches_a_second x (1 - cache_hits) x that"),
        (
            "replicas",
            f"{replicas:,.0f} of {given.replica_cores:,.0f} cores",
            "busy / (replica_cores x busy), 2 at least",
        ),
        ("memory", f"{memory:,.0f} GB each", "index + replica_cores x process_megabytes"),
        ("a month", f"{compute:,.0f} $", "replicas, the larger of their cores and memory / memory_gigabytes_a_core"),
        ("", f"{store:,.0f} $", "object store"),
        ("", f"{disk:,.0f} $", "replicas' disks"),
        ("", f"{compute + store + disk:,.0f} $", "together"),
    ]


def main(arguments: list[str]) -> None:
    """Print the inputs and the table."""
    names = {field.name for field in fields(Inputs)}
    given = Inputs()
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name not in names or not equals:
            sys.exit(f"{argument!r} is not NAME=NUMBER with one of {', '.join(sorted(names))}")
        given = replace(given, **{name: float(value)})
    for field in fields(Inputs):
        print(f"{field.name:<28}{getattr(given, field.name):,g}")
    print()
    for what, much, how in table(given):
        print(f"{what:<12}{much:>24}  {how}")


if __name__ == "__main__":
    main(sys.argv[1:])
