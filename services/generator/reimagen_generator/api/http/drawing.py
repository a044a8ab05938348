"""Draw the images of a request of the REST API, and answer it as a whole or as a stream."""

import contextlib
import time
from typing import Final

from fastapi import Request, Response

from reimagen_common.errors import InvalidArgument
from reimagen_generator.api.http.answers import Answer
from reimagen_generator.api.http.files import FileStore
from reimagen_generator.api.http.idempotency import KeptAnswers
from reimagen_generator.api.http.running import Runner, cancelled_with
from reimagen_generator.api.http.schema import ImagesRequest, ImagesResponse
from reimagen_generator.api.http.streaming import CLIENT_GONE, stream
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.generation.owner import current_owner
from reimagen_generator.generation.service import GenerationService, Image
from reimagen_generator.generation.uploads import UploadStore

_ANSWER_SECONDS: Final = 3_600
_ANSWER_BYTES: Final = 64 * 1024 * 1024


class Drawer:
    """Everything that the routes of images need to draw."""

    def __init__(
        self,
        generator: GenerationService,
        uploads: UploadStore,
        files: FileStore,
        *,
        deadline: float,
        base_url: str | None,
    ) -> None:
        """Create the drawer.

        Args:
            generator: The service that draws.
            uploads: The store of uploaded images.
            files: The store of linked images.
            deadline: Time limit of a request in seconds.
            base_url: The prefix of links. None uses the host of the request.
        """
        self._generator = generator
        self._uploads = uploads
        self._files = files
        self._deadline = deadline
        self._base_url = base_url
        self._runner = Runner(generator)
        self._answers = KeptAnswers(seconds=_ANSWER_SECONDS, maximum_bytes=_ANSWER_BYTES)

    async def draw(self, body: ImagesRequest, key: str | None, request: Request) -> ImagesResponse | Response:
        """Answer a request, or return the answer to an earlier one with the same key."""
        body = self._uploads.resolve(body, owner=current_owner())
        if key is None:
            return await self._draw(body, request)
        return await self._answers.once(key, current_owner(), body, lambda: self._draw(body, request))

    async def _draw(self, body: ImagesRequest, request: Request) -> ImagesResponse | Response:
        _check(body, self._generator)
        handle = RequestHandle(timeout=self._deadline)
        answer = Answer(self._generator, self._files, body, request, self._base_url)
        events = self._runner.events(body, handle)
        if body.stream:
            return await stream(events, answer, request, handle)
        data = []
        async with contextlib.aclosing(events), cancelled_with(request, handle):
            try:
                grounding = await answer.grounding(events)
                async for event in events:
                    answer.meter.add(event)
                    if isinstance(event, Image):
                        data.append(answer.image(event))
            except Cancelled:
                return Response(status_code=CLIENT_GONE)
        return ImagesResponse(
            created=int(time.time()),
            size=f"{answer.size}x{answer.size}",
            output_format=body.output_format,
            quality=answer.quality,
            data=data,
            usage=answer.usage(),
            **grounding.model_dump(),
        )


def _check(body: ImagesRequest, generator: GenerationService) -> None:
    check_model(body, generator)
    if body.previews and not body.stream:
        raise InvalidArgument("requires stream = true", field="partial_images")


def check_model(body: ImagesRequest, generator: GenerationService) -> None:
    """Check that a request is for the model that draws.

    Raises:
        InvalidArgument: The request names another model.
    """
    if body.model not in (None, generator.model.name):
        raise InvalidArgument(
            f"must be {generator.model.name!r}, the model that draws, or unset; got {body.model!r}", field="model"
        )
