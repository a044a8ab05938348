"""Settings of the retriever and of its clients, read from environment variables that begin with REIMAGEN_RETRIEVER_."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reimagen_common.access.settings import AccessSettings
from reimagen_common.addresses import Address
from reimagen_common.grpc_client import Credentials
from reimagen_common.http_settings import HttpSettings
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE, Relevance


class Settings(HttpSettings, AccessSettings):
    """Settings of `reimagen-retriever serve`."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_RETRIEVER_", frozen=True)

    knowledge_base: Annotated[str, BeforeValidator(str)] = Field(
        description="Folder of the knowledge base to serve, or its address in an object store, such as "
        "s3://bucket/kb, which is served read-only."
    )
    grpc: Address = Field(
        default="127.0.0.1:50051", description="host:port of the gRPC service; port 0 picks a free port."
    )
    http: Address | None = Field(
        default=None,
        description="host:port of REST, health and metrics, such as 127.0.0.1:8001; port 0 picks a free port. Unset: "
        "no HTTP server.",
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of serving processes on the same ports. Each has its own Java heap.",
    )
    concurrent_calls: int = Field(
        default=8, ge=1, le=256, description="Maximum number of requests that each process handles concurrently."
    )
    heap_megabytes: int = Field(default=512, ge=64, description="Maximum size of Lucene's Java heap, in MB.")
    relevance: Relevance = Field(
        default=DEFAULT_RELEVANCE,
        description="Default relevance, what a caption must share with the query: any word (any), the main word of an "
        "entity (entity), or all words of the phrase that names an entity (phrase).",
    )
    encoder: Path | None = Field(
        default=None,
        description="Folder of the encoder of the base's vectors. Unset: the folder where it was when the vectors were "
        "made.",
    )
    minimum_cosine: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Minimum cosine of the vectors of a query and a neighbor. Unset: the value measured when the "
        "vectors were made, which one in a thousand unrelated pairs exceeds.",
    )
    local_folder: Path = Field(
        default=Path("~/.cache/reimagen-retriever"),
        description="Local folder for the index and the cached images of a base in an object store.",
    )
    image_cache_megabytes: int = Field(
        default=1024,
        ge=64,
        description="Maximum size of the cached images of a base in an object store, in MB; the least recently used "
        "are evicted.",
    )
    store_seconds: float = Field(
        default=5, gt=0, description="Timeout for reading an image from the object store, in seconds."
    )
    redis_url: str | None = Field(
        default=None,
        description="Redis URL of the answer cache, and of what keys have used. Unset: no cache, and each process "
        "counts alone.",
    )
    cache_seconds: int = Field(default=3600, ge=1, description="Approximate lifetime of a cached answer, in seconds.")
    stop_seconds: float = Field(
        default=10, ge=0, description="Time that requests in progress get to finish after a stop signal, in seconds."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum severity of log entries."
    )

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        self.check_exposure([self.http, self.grpc])
        return self


class ClientSettings(BaseSettings):
    """Settings of `reimagen-retriever add` and `remove` with --address."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_RETRIEVER_CLIENT_", frozen=True)

    api_key: SecretStr | None = Field(
        default=None, description="API key of the service, with the right write. Unset: it requires none."
    )
    ca: Path | None = Field(
        default=None,
        description="PEM file of the authorities that the service's certificate must come from. Unset: no TLS.",
    )
    certificate: Path | None = Field(
        default=None, description="PEM file of the client's certificate, for a service that asks for one (mutual TLS)."
    )
    key: Path | None = Field(default=None, description="PEM file of the private key of certificate.")

    def credentials(self) -> Credentials:
        """Return how the client and the service recognize each other."""
        return Credentials(
            api_key=self.api_key.get_secret_value() if self.api_key else None,
            ca=self.ca,
            certificate=self.certificate,
            key=self.key,
            prefix="client_",
        )
