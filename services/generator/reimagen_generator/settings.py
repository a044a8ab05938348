"""Settings of the service; each is also an environment variable."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from reimagen_common.addresses import Address, split_address
from reimagen_common.http_settings import HttpSettings
from reimagen_common.logs import Level


def _check_replicas(target: str) -> str:
    addresses = target.removeprefix("ipv4:").split(",") if target.startswith("ipv4:") else [target]
    for address in addresses:
        split_address(address)
    return target


Replicas = Annotated[str, AfterValidator(_check_replicas)]
"""host:port, or several addresses in gRPC's syntax (ipv4:host:port,host:port)."""

SHIPPED_WEIGHTS: Final = Path(__file__).resolve().parents[1] / "weights" / "demo"


def user_cache(name: str) -> Path:
    """Return the folder for one of the user's caches."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "reimagen" / name


class Settings(HttpSettings):
    """Settings of `reimagen-generator serve`. REIMAGEN_GENERATOR_QUEUE_CAPACITY=2 sets queue_capacity, and so on."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_GENERATOR_", frozen=True, extra="forbid")

    weights: Path = Field(SHIPPED_WEIGHTS, description="Folder of the cascade: cascade.json and its weights.")
    text_encoder: Path | None = Field(
        None,
        description="Folder of the text encoder's network [default: text_encoder in the cascade's folder].",
    )
    retriever: Replicas = Field(
        "127.0.0.1:50051",
        description="host:port of the retriever's gRPC; for replicas, a name that resolves to all of them, or "
        "ipv4:host:port,host:port.",
    )
    grpc: Address = Field("127.0.0.1:50052", description="host:port to serve gRPC on; port 0 picks a free port.")
    http: Address = Field("127.0.0.1:8000", description="host:port to serve REST on; port 0 picks a free port.")
    queue_capacity: int = Field(
        8, ge=0, le=64, description="Maximum number of waiting requests, in addition to the one being drawn."
    )
    batch_size: int = Field(
        1, ge=1, le=10, description="Images drawn in one batch; a request for more is drawn in several batches."
    )
    deadline_seconds: float = Field(
        300, gt=0, le=3600, description="Deadline of a request that sets none, in seconds after its arrival."
    )
    stop_seconds: float = Field(
        30, ge=0, le=600, description="Seconds that running requests may take after a stop signal."
    )
    jobs: Path | None = Field(
        None, description="Folder in which jobs and their images are stored. Unset: the service accepts no jobs."
    )
    job_capacity: int = Field(100, ge=1, le=100_000, description="Maximum number of unfinished jobs.")
    job_runners: int = Field(
        1, ge=1, le=16, description="Number of jobs that are drawn at the same time, each in a place of the queue."
    )
    job_deadline_seconds: float = Field(
        3600, gt=0, le=86_400, description="Maximum time of a job in seconds, from its place in the queue on."
    )
    job_retention_seconds: float = Field(
        86_400, gt=0, le=31_536_000, description="Seconds for which a finished job and its images are kept."
    )
    upload_megabytes: int = Field(
        256, ge=1, le=65_536, description="Maximum total size of the uploaded files, which are kept in memory, in MiB."
    )
    upload_seconds: float = Field(
        86_400, gt=0, le=31_536_000, description="Seconds for which an uploaded file is kept."
    )
    compile_cache: Path = Field(
        default_factory=partial(user_cache, "compiled"),
        description="Folder for compiled code, so that nothing is compiled twice.",
    )
    log_level: Level = Field("info", description="Lowest level that is logged.")

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, folder: Path) -> Path:
        if not (folder / "cascade.json").is_file():
            raise ValueError(f"there is no cascade.json in {folder}")
        return folder


class Hosts(BaseSettings):
    """Settings of training on several hosts. REIMAGEN_GENERATOR_COORDINATOR=auto sets coordinator, and so on."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_GENERATOR_", frozen=True)

    coordinator: str | None = Field(
        None, description="host:port of process 0, or auto if the cloud provides it; unset for a single host."
    )
    processes: int | None = Field(None, ge=1, description="Number of hosts.")
    process: int | None = Field(None, ge=0, description="Index of this host, from 0.")

    @model_validator(mode="after")
    def _check_complete(self) -> Self:
        if self.coordinator not in (None, "auto"):
            split_address(self.coordinator)
        has_both = self.processes is not None and self.process is not None
        if self.coordinator not in (None, "auto") and not has_both:
            raise ValueError("processes, process: must both be set if coordinator is an address")
        return self
