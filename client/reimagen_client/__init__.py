"""A client of Re-Imagen, over REST (`Client`, `AsyncClient`) and gRPC (`reimagen_client.grpc_client`)."""

from reimagen_client.async_client import AsyncClient
from reimagen_client.client import Client
from reimagen_client.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    JobFailed,
    NotFound,
    Overloaded,
    PermissionDenied,
    ReimagenError,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from reimagen_client.models import CutOut, Done, Generation, Image, Job, Neighbor, Preview, Progress, Retrieved
from reimagen_client.options import Options, Reference
from reimagen_client.retries import RetryPolicy

__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "CutOut",
    "DeadlineExceeded",
    "Done",
    "Generation",
    "Image",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "Neighbor",
    "NotFound",
    "Options",
    "Overloaded",
    "PermissionDenied",
    "Preview",
    "Progress",
    "Reference",
    "ReimagenError",
    "Retrieved",
    "RetryPolicy",
    "ServerError",
    "Unauthenticated",
    "Unavailable",
]
