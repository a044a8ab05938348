"""What a knowledge base of LAION-400M's size takes: disk, memory, hours, machines and money, from rates measured here.

Every figure that it reckons from is an input, with its default; prices are assumptions. Put in your own:

    python -m benchmarks.scale pairs=2e9 price_core_hour=0.03
"""

import sys
from dataclasses import dataclass, fields, replace

HOURS_A_MONTH = 730.0


@dataclass(frozen=True)
class Inputs:
    """What the table is reckoned from."""

    pairs: float = 400e6
    """LAION-400M's, of which many no longer download."""
    image_bytes: float = 25e3
    """LAION's own figure for 256 pixels: 10 TB."""
    group_pairs: float = 1e6
    """Of the bases that are built apart and united: 100 of img2dataset's shards."""
    cores: float = 64
    """That build, and find neighbors."""
    searches_a_second: float = 1_000
    cache_hits: float = 0
    """The share of searches that Redis answers."""
    replica_cores: float = 16
    busy: float = 0.6
    """How much of a replica's cores searches may take, so that latency stays near that of one alone."""

    # Measured here, see docs/scale.md.
    index_bytes: float = 460
    """A pair, by benchmarks.spread."""
    build_core_ms: float = 1.0
    """A pair of a group: 0.58 + 0.25 by benchmarks.spread, and what near-duplicates cost more in a million images."""
    neighbors_core_ms: float = 2.4
    """A pair in a small base, by benchmarks.spread, with images of 64 pixels."""
    neighbors_alone_ms: float = 0.16
    """A pair, in the process that was started, by benchmarks.spread."""
    ranking_ms_a_million: float = 0.46
    """What a pair's neighbors take longer for each million captions, by benchmarks.bm25.top_neighbors."""
    call_core_ms: float = 1.7
    """A search over gRPC in a small base, by benchmarks.retrieval: 1,175 a second on 2 cores."""
    search_ms_a_million: float = 0.182
    """What a search takes longer for each million pairs, by benchmarks.bm25.growth: 1.15 ms at 4M, 2.24 at 10M."""
    process_megabytes: float = 700
    """Of a serving process, besides the index: Java's heap of 512 and Python."""

    # Assumed: list prices differ by provider, region and year.
    price_core_hour: float = 0.04
    """Of a general purpose machine, with 4 GB a core, in dollars."""
    price_store_gigabyte_month: float = 0.023
    """Of an object store."""
    price_disk_gigabyte_month: float = 0.08
    """Of a replica's disk."""
    memory_gigabytes_a_core: float = 4


def table(given: Inputs) -> list[tuple[str, str, str]]:
    """What, how much, and how it was reckoned."""
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
    """Prints the inputs and the table."""
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
