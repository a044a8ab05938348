"""HTTP routes for operators: liveness, readiness, health and metrics."""

from collections.abc import Callable
from typing import Final, Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field, field_validator

from reimagen_common.errors import Unavailable
from reimagen_common.secrets import masked

PATHS: Final = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})


class Health(BaseModel):
    """The health of a service."""

    status: Literal["starting", "ready", "degraded", "stopping"] = Field(
        description="`ready`: everything works. `degraded`: the service accepts requests, but not everything works. "
        "`starting`, `stopping`: the service refuses requests."
    )
    reasons: list[str] = Field(default=[], description="Reasons why the service is degraded.")

    @field_validator("reasons")
    @classmethod
    def _masked(cls, reasons: list[str]) -> list[str]:
        return [masked(reason) for reason in reasons]


def operations_router(health: Callable[[], Health], metrics: Callable[[], bytes] = generate_latest) -> APIRouter:
    """Create the routes for operators.

    Args:
        health: A function that returns the health of the service within a second.
        metrics: A function that returns all metrics in Prometheus's text format.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/livez")
    async def is_alive() -> dict[str, str]:
        """Return 200 while the process responds. A process that does not respond should be killed."""
        return {"status": "alive"}

    @router.get("/readyz", responses={503: {"description": "The service is starting or stopping."}})
    def is_ready() -> Health:
        """Return 200 while the service accepts requests, even if it is degraded."""
        found = health()
        if found.status in ("starting", "stopping"):
            raise Unavailable(f"the service is {found.status}", retry_after=5)
        return found

    @router.get("/healthz")
    def read_health() -> Health:
        """Return the health of the service and the reasons if it is degraded. The status is always 200."""
        return health()

    @router.get("/metrics", response_class=PlainTextResponse)
    def read_metrics() -> Response:
        """Return the metrics in Prometheus's text format."""
        return Response(metrics(), media_type=CONTENT_TYPE_LATEST)

    return router
