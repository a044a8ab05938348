"""Metrics of the retriever. The metrics of gRPC and HTTP requests are in reimagen_common.metrics."""

from typing import Final

from prometheus_client import Counter, Gauge

CACHE_LOOKUPS: Final = Counter(
    "reimagen_retriever_cache_lookups_total",
    "Lookups of answers in Redis: hit, miss, error, or skipped while Redis does not answer.",
    ["outcome"],
)
CACHE_ERRORS: Final = Counter(
    "reimagen_retriever_cache_errors_total",
    "Failed Redis commands: unanswered (timeout or no connection), or refused (Redis is full or read-only).",
    ["kind"],
)
CACHE_BREAKER: Final = Gauge(
    "reimagen_retriever_cache_breaker_open", "1 while Redis does not answer and one search a second tries it, else 0."
)
INDEX_SEARCHES: Final = Counter("reimagen_retriever_index_searches_total", "Searches of the index.")
PAIRS: Final = Gauge("reimagen_retriever_pairs", "Number of pairs in the served knowledge base.")
REVISIONS: Final = Counter("reimagen_retriever_revisions_total", "Revisions that were opened since the start.")
REVISION_SINCE: Final = Gauge(
    "reimagen_retriever_revision_timestamp_seconds", "Unix time at which the served revision was opened."
)
