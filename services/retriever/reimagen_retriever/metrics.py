"""The retriever's own metrics; those of its calls and requests are in reimagen_common.metrics."""

from typing import Final

from prometheus_client import Counter, Gauge

CACHE_LOOKUPS: Final = Counter(
    "reimagen_retriever_cache_lookups_total",
    "Answers looked for in Redis: hit, miss, error, or skipped while Redis does not answer.",
    ["outcome"],
)
CACHE_ERRORS: Final = Counter(
    "reimagen_retriever_cache_errors_total",
    "Commands that failed: unanswered in time or at all, or refused by Redis, which is full or read-only.",
    ["kind"],
)
CACHE_BREAKER: Final = Gauge(
    "reimagen_retriever_cache_breaker_open", "1 while Redis does not answer and one search a second tries it, else 0."
)
INDEX_SEARCHES: Final = Counter("reimagen_retriever_index_searches_total", "Searches that went to the index.")
PAIRS: Final = Gauge("reimagen_retriever_pairs", "Pairs in the knowledge base that is served.")
GENERATIONS: Final = Counter("reimagen_retriever_generations_total", "Generations that were opened since the start.")
GENERATION_SINCE: Final = Gauge(
    "reimagen_retriever_generation_timestamp_seconds", "When the revision that is served was opened, in Unix time."
)
