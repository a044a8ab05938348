"""The settings of the service, each of them also an environment variable."""

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
"""host:port, or as gRPC names several addresses."""

SHIPPED_WEIGHTS: Final = Path(__file__).resolve().parents[1] / "weights" / "demo"


def user_cache(name: str) -> Path:
    """Where a user's caches are, in a folder of its own for each."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "reimagen" / name


class Settings(HttpSettings):
    """How `reimagen-generator serve` runs. REIMAGEN_GENERATOR_QUEUE_CAPACITY=2 sets queue_capacity, and so on."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_GENERATOR_", frozen=True, extra="forbid")

    weights: Path = Field(SHIPPED_WEIGHTS, description="Folder of the cascade: cascade.json and its weights.")
    text_encoder: Path | None = Field(
        None,
        description="Folder of the network that reads a cascade's texts [default: text_encoder in the cascade's own].",
    )
    retriever: Replicas = Field(
        "127.0.0.1:50051",
        description="host:port of the retriever's gRPC; of replicas, a name that stands for all of them, "
        "or ipv4:host:port,host:port.",
    )
    grpc: Address = Field("127.0.0.1:50052", description="host:port to serve gRPC on; port 0 takes a free one.")
    http: Address = Field("127.0.0.1:8000", description="host:port to serve REST on; port 0 takes a free one.")
    queue_capacity: int = Field(8, ge=0, le=64, description="Requests that may wait beside the one being drawn.")
    batch_size: int = Field(
        1, ge=1, le=10, description="Images drawn at once; a request for more is drawn in several batches."
    )
    deadline_seconds: float = Field(300, gt=0, le=3600, description="How long a request may take, unless it says.")
    stop_seconds: float = Field(30, ge=0, le=600, description="How long requests may take once a stop is asked.")
    compile_cache: Path = Field(
        default_factory=partial(user_cache, "compiled"),
        description="Folder that keeps compiled code, so that nothing is compiled twice.",
    )
    log_level: Level = Field("info", description="The least severe level that is logged.")

    @field_validator("weights")
    @classmethod
    def _weights_are_there(cls, folder: Path) -> Path:
        if not (folder / "cascade.json").is_file():
            raise ValueError(f"there is no cascade.json in {folder}")
        return folder


class Hosts(BaseSettings):
    """Which hosts train together. REIMAGEN_GENERATOR_COORDINATOR=auto sets coordinator, and so on."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_GENERATOR_", frozen=True)

    coordinator: str | None = Field(
        None, description="host:port of process 0, or auto where the cloud tells it; unset for one host alone."
    )
    processes: int | None = Field(None, ge=1, description="How many hosts.")
    process: int | None = Field(None, ge=0, description="Which of them this is, from 0.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.coordinator not in (None, "auto"):
            split_address(self.coordinator)
        given = self.processes is not None and self.process is not None
        if self.coordinator not in (None, "auto") and not given:
            raise ValueError("processes, process: must both be set beside an address as coordinator")
        return self
