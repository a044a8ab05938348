"""What an operator can set, by environment variables that begin with REIMAGEN_RETRIEVER_."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from reimagen_common.addresses import Address
from reimagen_common.http_settings import HttpSettings
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE, Relevance


class Settings(HttpSettings):
    """Settings of `reimagen-retriever serve`."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_RETRIEVER_", frozen=True)

    knowledge_base: Annotated[str, BeforeValidator(str)] = Field(
        description="Folder of the knowledge base to serve, or the address of one in an object store, such as "
        "s3://bucket/kb, for reading alone."
    )
    grpc: Address = Field(default="127.0.0.1:50051", description="host:port of the gRPC service; port 0 takes any.")
    http: Address | None = Field(
        default=None, description="host:port of REST, health and metrics, such as 127.0.0.1:8001; port 0 takes any."
    )
    processes: int = Field(
        default=1, ge=1, le=64, description="Processes that serve, on the same ports; each has a Java heap of its own."
    )
    concurrent_calls: int = Field(
        default=8, ge=1, le=256, description="How many calls each process answers at the same time."
    )
    heap_megabytes: int = Field(default=512, ge=64, description="The most memory that Lucene's Java heap may take.")
    relevance: Relevance = Field(
        default=DEFAULT_RELEVANCE,
        description="What a caption must have of a query where a search does not say: any of its words, the main word "
        "of what it asks for (entity), or all words of the phrase that names it.",
    )
    encoder: Path | None = Field(
        default=None,
        description="Folder of the encoder that the base's vectors were made with, if it is not where it was then.",
    )
    minimum_cosine: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="The least cosine of a query's and a pair's vector for the pair to be a neighbor; unless set, what "
        "was measured when the vectors were made: one in a thousand of unrelated pairs has more.",
    )
    local_folder: Path = Field(
        default=Path("~/.cache/reimagen-retriever"),
        description="Where the index of a base in an object store is brought to, and its images are kept.",
    )
    image_cache_megabytes: int = Field(
        default=1024, ge=64, description="How much of such a base's images is kept on disk: the last used."
    )
    store_seconds: float = Field(
        default=5, gt=0, description="How long the store may take for an image before the search fails."
    )
    redis_url: str | None = Field(default=None, description="Where answers are cached; none: they are not.")
    cache_seconds: int = Field(default=3600, ge=1, description="About how long an answer stays in the cache.")
    stop_seconds: float = Field(default=10, ge=0, description="How long calls under way may take once a stop is asked.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severe to log.")
