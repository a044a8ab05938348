"""What an operator can set, by environment variables that begin with REIMAGEN_RETRIEVER_."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from reimagen_common.addresses import Address
from reimagen_common.http_settings import HttpSettings

# Over the demonstration's texts no prompt for an unknown thing in a known scene finds a neighbor from 0.6 up; at 0.5
# a third do, by a word of the scene, without a minimum three quarters. Prompts for known things keep theirs.
DEFAULT_MINIMUM_OVERLAP = 0.6


class Settings(HttpSettings):
    """Settings of `reimagen-retriever serve`."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_RETRIEVER_", frozen=True)

    knowledge_base: Annotated[str, BeforeValidator(str)] = Field(
        description="Folder of the knowledge base to serve, or the address of one in an object store, such as "
        "s3://bucket/kb, for reading alone."
    )
    address: Address = Field(default="127.0.0.1:50051", description="host:port of the gRPC service; port 0 takes any.")
    http: Address | None = Field(
        default=None, description="host:port of REST, health and metrics, such as 127.0.0.1:8001; port 0 takes any."
    )
    processes: int = Field(
        default=1, ge=1, le=64, description="Processes that serve, on the same ports; each has a Java heap of its own."
    )
    workers: int = Field(default=8, ge=1, le=256, description="How many calls a process answers at once.")
    heap_megabytes: int = Field(default=512, ge=64, description="The most memory that Lucene's Java heap may take.")
    minimum_overlap: float = Field(
        default=DEFAULT_MINIMUM_OVERLAP,
        ge=0,
        le=1,
        description="How much of the shorter of query and text both must say for the pair to be a neighbor. "
        "The default suits texts that name a thing; where they are long captions, try 0.3 to 0.5.",
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
        description="Where the index of a base in an object store is brought to, and its pictures are kept.",
    )
    picture_cache_megabytes: int = Field(
        default=1024, ge=64, description="How much of such a base's pictures is kept on disk: the last used."
    )
    store_seconds: float = Field(
        default=5, gt=0, description="How long the store may take for a picture before the search fails."
    )
    redis_url: str | None = Field(default=None, description="Where answers are cached; none: they are not.")
    cache_seconds: int = Field(default=3600, ge=1, description="About how long an answer stays in the cache.")
    stop_seconds: float = Field(default=10, ge=0, description="How long calls under way may take once a stop is asked.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severe to log.")
