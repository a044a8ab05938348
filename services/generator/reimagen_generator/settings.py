"""Settings of the service; each is also an environment variable."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from reimagen_common.access.settings import AccessSettings
from reimagen_common.addresses import Address, BaseUrl, split_address, split_names
from reimagen_common.grpc_client import Credentials
from reimagen_common.http_settings import HttpSettings
from reimagen_common.logs import Level
from reimagen_generator.moderation_settings import ModerationSettings
from reimagen_generator.signing_settings import SigningSettings


def _check_replicas(target: str) -> str:
    addresses = target.removeprefix("ipv4:").split(",") if target.startswith("ipv4:") else [target]
    for address in addresses:
        split_address(address)
    return target


Replicas = Annotated[str, AfterValidator(_check_replicas)]
"""host:port, or several addresses in gRPC's syntax (ipv4:host:port,host:port)."""

Sides = Annotated[
    tuple[Annotated[int, Field(ge=16, le=4096)], ...], NoDecode, BeforeValidator(split_names), Field(min_length=1)
]
"""Sides of images in pixels, separated by commas in environment variables."""

REFERENCE_TEMPLATE: Final = "Image {number} shows {caption}."
SHIPPED_WEIGHTS: Final = Path(__file__).resolve().parents[1] / "weights" / "demo"


def user_cache(name: str) -> Path:
    """Return the folder for one of the user's caches."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "reimagen" / name


class Settings(HttpSettings, AccessSettings, SigningSettings, ModerationSettings):
    """Settings of `reimagen-generator serve`. REIMAGEN_GENERATOR_CAPACITY=2 sets capacity, and so on."""

    model_config = SettingsConfigDict(env_prefix="REIMAGEN_GENERATOR_", frozen=True, extra="forbid")

    weights: Path | str = Field(
        SHIPPED_WEIGHTS,
        description="Folder of the cascade: cascade.json and its weights. Or the address of such a folder that fsspec "
        "can read, such as gs://bucket/folder, with a file SHA256SUMS.",
    )
    weights_cache: Path = Field(
        default_factory=partial(user_cache, "weights"),
        description="Folder into which weights from an address are fetched, each version once.",
    )
    text_encoder: Path | None = Field(
        None,
        description="Folder of the text encoder's network [default: text_encoder in the cascade's folder].",
    )
    images_url: BaseUrl | None = Field(
        None,
        description="Base URL of an image server, which draws in place of a cascade: any server that speaks OpenAI's "
        "images/edits and images/generations, such as http://127.0.0.1:8091/v1. No weights are loaded then.",
    )
    images_api_key: SecretStr | None = Field(
        None, description="API key of the image server, sent as a bearer token. Unset: it requires none."
    )
    images_model: str | None = Field(
        None,
        min_length=1,
        description="Name of the image server's model, as its requests name it. Unset: no name is sent, and answers "
        "name the model image-server.",
    )
    images_sizes: Sides = Field(
        (1024,),
        description="Sides in pixels, separated by commas, of the square images that the image server's model draws.",
    )
    images_maximum_k: int = Field(
        4, ge=0, le=16, description="Maximum number of reference images that the image server's model accepts."
    )
    images_reference_template: str = Field(
        REFERENCE_TEMPLATE,
        description="Line that is appended to the prompt for each reference image; {number} counts from 1, and "
        "{caption} is the caption.",
    )
    images_response_format: bool = Field(
        True,
        description="Whether to ask the image server for response_format=b64_json. OpenAI's GPT image models refuse "
        "this field, and answer with base64 anyway.",
    )
    retriever: Replicas = Field(
        "127.0.0.1:50051",
        description="host:port of the retriever's gRPC; for replicas, a name that resolves to all of them, or "
        "ipv4:host:port,host:port.",
    )
    retriever_api_key: SecretStr | None = Field(
        None, description="API key of the retriever, with the right read. Unset: it requires none."
    )
    retriever_ca: Path | None = Field(
        None,
        description="PEM file of the authorities that the retriever's certificate must come from. Unset: no TLS.",
    )
    retriever_certificate: Path | None = Field(
        None, description="PEM file of this service's certificate for a retriever that asks for one (mutual TLS)."
    )
    retriever_key: Path | None = Field(None, description="PEM file of the private key of retriever_certificate.")
    grpc: Address = Field("127.0.0.1:50052", description="host:port to serve gRPC on; port 0 picks a free port.")
    http: Address = Field("127.0.0.1:8000", description="host:port to serve REST on; port 0 picks a free port.")
    redis_url: str | None = Field(
        None,
        description="Redis URL of what keys have used, for all processes together. Unset: each process counts alone.",
    )
    capacity: int = Field(
        16,
        ge=1,
        le=1024,
        description="Maximum number of requests that are drawn or waiting; more are refused. With images_url, none "
        "wait: all are sent to the image server at once.",
    )
    largest_batch: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Maximum number of images in a batch. At its start, the service measures which batch sizes up to "
        "this one are worth using. Unset: 16 on an accelerator; 1 on a CPU, whose cores one image keeps busy.",
    )
    deadline_seconds: float = Field(
        300, gt=0, le=3600, description="Deadline of a request that sets none, in seconds after its arrival."
    )
    stop_seconds: float = Field(
        30, ge=0, le=600, description="Seconds that running requests may take after a stop signal."
    )
    jobs: Path | None = Field(
        None,
        description="Folder in which jobs and their images are stored. Unset, and jobs_redis_url too: the service "
        "accepts no jobs.",
    )
    jobs_redis_url: str | None = Field(
        None,
        description="URL of the Redis in which jobs and their images are stored, in place of a folder. It needs "
        "maxmemory-policy noeviction, appendonly yes and appendfsync always, so it cannot be the Redis of the "
        "retriever's cache.",
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
    def _check_weights(cls, weights: Path | str) -> Path | str:
        if "://" in str(weights):
            return str(weights)
        folder = Path(weights)
        if not (folder / "cascade.json").is_file():
            raise ValueError(f"there is no cascade.json in {folder}")
        return folder

    def retriever_credentials(self) -> Credentials:
        """Return how this service and the retriever recognize each other."""
        return Credentials(
            api_key=self.retriever_api_key.get_secret_value() if self.retriever_api_key else None,
            ca=self.retriever_ca,
            certificate=self.retriever_certificate,
            key=self.retriever_key,
            prefix="retriever_",
        )

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        self.check_exposure([self.http, self.grpc])
        return self


class Hosts(BaseSettings):
    """Settings of several hosts that work as one. REIMAGEN_GENERATOR_COORDINATOR=auto sets coordinator, and so on."""

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
