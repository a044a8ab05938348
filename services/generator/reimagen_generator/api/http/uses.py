"""Which kept images are grounded on a pair."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from reimagen_common.http_paths import ID_PATH
from reimagen_generator.api.http.files import FileStore
from reimagen_generator.api.http.knowledge_schema import LISTED_JOBS, FileUse, JobUse, PairId, PairUses
from reimagen_generator.jobs.service import JobService

_STORE: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "The jobs cannot be read now."}}

FindUses = Callable[[str], Awaitable[PairUses]]
"""A function that returns the kept images that are grounded on the pair with an id."""


def uses_in(jobs: JobService | None, files: FileStore) -> FindUses:
    """Return the function that looks into jobs, if they are stored, and linked files."""

    async def find(pair_id: str) -> PairUses:
        found = await run_in_threadpool(jobs.uses, pair_id, limit=LISTED_JOBS + 1) if jobs else []
        listed = [
            JobUse(
                id=use.job_id,
                owner=use.owner,
                status=use.status.word,
                images=use.images,
                created_at=int(use.created),
            )
            for use in found[:LISTED_JOBS]
        ]
        linked = [FileUse(name=name, owner=file.owner) for name, file in files.uses(pair_id)]
        images = sum(use.images for use in listed) + len(linked)
        return PairUses(images=images, jobs=listed, files=linked, has_more=len(found) > LISTED_JOBS)

    return find


def uses_router(find_uses: FindUses) -> APIRouter:
    """Return the route of the uses of a pair. It is not below the pair, whose id may contain slashes."""
    router = APIRouter(prefix="/v1/knowledge", tags=["knowledge base"], responses=_STORE)

    @router.get(f"/uses/{ID_PATH}")
    async def list_uses(pair_id: PairId) -> PairUses:
        """List the kept images that are grounded on a pair, of all keys, even after the pair was removed.

        Those are the images of jobs, and linked images. Requests are not shown.
        """
        return await find_uses(pair_id)

    return router
