"""What operators ask of a service over HTTP: whether it lives, whether it is ready, how it is doing, its metrics."""

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
    """How a service is doing."""

    status: Literal["starting", "ready", "degraded", "stopping"] = Field(
        description="`ready`: all is well. `degraded`: it serves, but something that it should have is missing. "
        "`starting`, `stopping`: it refuses work."
    )
    reasons: list[str] = Field(default=[], description="Why it is degraded.")

    @field_validator("reasons")
    @classmethod
    def _masked(cls, reasons: list[str]) -> list[str]:
        return [masked(reason) for reason in reasons]


def operations_router(health: Callable[[], Health], metrics: Callable[[], bytes] = generate_latest) -> APIRouter:
    """Make the routes for operators.

    Args:
        health: Tells how the service is doing, within a second.
        metrics: All metrics in Prometheus's text format.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/livez")
    async def is_alive() -> dict[str, str]:
        """Answer 200 as long as the process does; where it does not, the process is to be ended."""
        return {"status": "alive"}

    @router.get("/readyz", responses={503: {"description": "It is starting or stopping."}})
    def is_ready() -> Health:
        """Answer 200 while requests are welcome, be the service degraded or not."""
        found = health()
        if found.status in ("starting", "stopping"):
            raise Unavailable(f"the service is {found.status}", retry_after=5)
        return found

    @router.get("/healthz")
    def read_health() -> Health:
        """Tell how the service is doing, and what is missing; the status is always 200."""
        return health()

    @router.get("/metrics", response_class=PlainTextResponse)
    def read_metrics() -> Response:
        """Tell the metrics in Prometheus's text format."""
        return Response(metrics(), media_type=CONTENT_TYPE_LATEST)

    return router
