"""Handle a request for images: validate it, retrieve neighbors, draw the images and encode their files."""

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from reimagen.v1 import retrieval_pb2
from reimagen_common import tracing
from reimagen_common.access.caller import current_caller
from reimagen_common.access.guard import Guard
from reimagen_common.errors import InvalidArgument, Overloaded, Unavailable
from reimagen_generator import metrics
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.engine.work import GenerationTask, Priority
from reimagen_generator.generation import provenance
from reimagen_generator.generation.backend import Backend, ModelDescription
from reimagen_generator.generation.image_log import ImageLog
from reimagen_generator.generation.images import MEDIA_TYPES
from reimagen_generator.generation.owner import current_owner
from reimagen_generator.generation.policy import Policy
from reimagen_generator.generation.references import (
    References,
    counted,
    cut_neighbor,
    read_neighbor,
    read_reference,
    read_references,
    with_cut_outs,
)
from reimagen_generator.generation.relevance import relevant
from reimagen_generator.generation.request import SEEDS, GenerationRequest
from reimagen_generator.generation.request_parts import Reference
from reimagen_generator.generation.retriever_client import Filters, Neighbor, Neighbors, RetrieverClient
from reimagen_generator.generation.signing import Signer
from reimagen_generator.watermark.embedding import embed, embedded

_DEFAULT_SIZE: Final = 256
# A check takes at most a quarter of these seconds to fetch pairs.
_CHECK_SECONDS: Final = 40.0
# The share of a job's deadline in which it waits for a retriever that is overloaded or down.
_OUTAGE_SHARE: Final = 0.1
_SHORTEST_PAUSE: Final = 0.5
_RETRIEVAL_OFF: Final = retrieval_pb2.NothingFound(reason="no neighbors were requested", field="retrieval.k")

_Answer = TypeVar("_Answer")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accepted:
    """The event that the request is valid and admitted."""

    id: str
    """Id of the request, as in the log."""
    seed: int | None
    """Seed of the first image. None: the model has no seeds."""
    size: int
    """Width and height of the images in pixels."""
    queued: int
    """Number of requests that are drawn before this one."""


@dataclass(frozen=True)
class Image:
    """The event that an image is finished, with its file."""

    index: int
    """Index of the image in the request, from 0."""
    seed: int | None
    """Seed of the image. None: the model has no seeds."""
    image: bytes
    """The image file, with its provenance."""
    media_type: str
    """Media type of the file, such as `image/png`."""
    size: int
    """Width and height of the image in pixels."""


Event = Accepted | Neighbors | StepEvent | Image


class GenerationService:
    """The service that handles requests for images. REST and gRPC are thin layers over it."""

    def __init__(
        self,
        backend: Backend,
        retriever: RetrieverClient,
        guard: Guard | None = None,
        signer: Signer | None = None,
        policy: Policy | None = None,
        *,
        watermark: bool = True,
        log: ImageLog | None = None,
    ) -> None:
        """Create the service.

        Args:
            backend: The backend, which draws.
            retriever: The client of the retriever.
            guard: The quotas of keys; by default there are none.
            signer: The signer of image files; by default they are not signed.
            policy: The policy on prompts and pairs; by default all are allowed.
            watermark: Whether images get a watermark.
            log: The log of drawn images; by default there is none.
        """
        self.backend = backend
        self.retriever = retriever
        self._guard = guard or Guard()
        self._signer = signer
        self.policy = policy or Policy()
        self._watermark = watermark
        self._log = log

    @property
    def model(self) -> ModelDescription:
        """The model that draws."""
        return self.backend.model

    def check(self, request: GenerationRequest) -> int:
        """Check a request that will be handled later, and return the size of its images in pixels.

        Raises:
            InvalidArgument: The model does not support a field's value, or a reference cannot be read.
            ContentPolicyViolation: The policy refuses the prompt or a reference.
            Unavailable: The request names pairs as references and the retriever does not answer, or the policy cannot
                be asked.
        """
        self._refuse_unsupported(request)
        size = self._size(request)
        self._k(request)
        self.backend.check(request, size)
        self._references(request, remaining=_CHECK_SECONDS)
        return size

    def generate(
        self, request: GenerationRequest, handle: RequestHandle, priority: Priority = Priority.INTERACTIVE
    ) -> Iterator[Event]:
        """Yield one `Accepted`, one `Neighbors`, a `StepEvent` for each step, and each `Image` when it is finished.

        A background request waits for a retriever that is overloaded or down, up to a tenth of its deadline.

        Raises:
            InvalidArgument: The model does not support a field's value, or a reference cannot be read.
            ContentPolicyViolation: The policy refuses the prompt or a reference.
            Overloaded: Too many requests are waiting.
            LimitExceeded: The caller has used up its quota of images.
            Unavailable: The service is starting or stopping, or the retriever or the policy's hook does not answer.
            DeadlineExceeded: The deadline has passed.
            Cancelled: The request was cancelled.
        """
        self._refuse_unsupported(request)
        size = self._size(request)
        k = self._k(request)
        first_seed = secrets.randbelow(SEEDS) if request.seed is None else request.seed
        started, owner = time.monotonic(), current_owner()
        neighbors = counted(request) if request.references else k
        with self.backend.admit(handle, request, size=size, neighbors=neighbors, priority=priority) as admission:
            references = _patiently(lambda: self._references(request, remaining=handle.remaining()), handle, priority)
            references = with_cut_outs(references, request.references, handle.check)
            self._guard.take_images(current_caller(), request.n)
            log_fields = {"call": handle.id, "n": request.n, "size": size, "queued": admission.ahead}
            _logger.info("accepted", extra=log_fields | ({"user": _hashed(request.user)} if request.user else {}))
            seed = first_seed if self.model.has_seeds else None
            yield Accepted(id=handle.id, seed=seed, size=size, queued=admission.ahead)
            grounding = (
                references.neighbors
                if request.references
                else _patiently(lambda: self._find(request, k, handle), handle, priority)
            )
            yield grounding
            task = GenerationTask(
                prompt=request.prompt,
                neighbors=references.pairs
                if request.references
                else [read_neighbor(neighbor) for neighbor in grounding.neighbors],
                seeds=[(first_seed + index) % SEEDS for index in range(request.n)],
                previews=request.previews,
                negative_prompt=request.negative_prompt,
            )
            for event in admission.draw(task):
                match event:
                    case StepEvent():
                        yield event
                    case ImagesEvent():
                        yield from self._write(request, task, size, grounding, event, owner)
            _logger.info("drawn", extra={"call": handle.id, "seconds": time.monotonic() - started})

    def cut_out(self, reference: Reference) -> Neighbor:
        """Return a reference with its object cut out, as a request for images would use it.

        Raises:
            InvalidArgument: The image cannot be read, or no pair has the given id.
            ContentPolicyViolation: The policy refuses the reference.
            Unavailable: The reference is a pair and the retriever does not answer, or the policy cannot be asked.
        """
        neighbor = read_reference(reference, self.retriever, remaining=_CHECK_SECONDS)
        self.policy.check_references([neighbor], remaining=_CHECK_SECONDS)
        return cut_neighbor(neighbor, field="image")

    def _refuse_unsupported(self, request: GenerationRequest) -> None:
        for name in sorted(self.model.unsupported):
            field = type(request).model_fields[name]
            if getattr(request, name) != field.get_default():
                raise InvalidArgument(
                    f"must be unset: model {self.model.name!r} does not support it", field=field.alias or name
                )

    def _size(self, request: GenerationRequest) -> int:
        sizes = self.model.sizes
        if request.size is None:
            return _DEFAULT_SIZE if _DEFAULT_SIZE in sizes else max(sizes)
        if request.size not in sizes:
            supported = ", ".join(f"{size}x{size}" for size in sizes)
            raise InvalidArgument(
                f"must be one of {supported} with model {self.model.name!r}, got {request.size}x{request.size}",
                field="size",
            )
        return request.size

    def _k(self, request: GenerationRequest) -> int:
        most = self.model.maximum_k
        if len(request.references) > most:
            raise InvalidArgument(
                f"must be at most {most} with model {self.model.name!r}, got {len(request.references)}",
                field="references",
            )
        k = request.retrieval.k
        if k is None:
            return self.model.default_k
        if k > most:
            raise InvalidArgument(f"must be 0 to {most} with model {self.model.name!r}, got {k}", field="retrieval.k")
        return k

    def _references(self, request: GenerationRequest, *, remaining: float) -> References:
        """Return the references of a request whose prompt and references the policy allows."""
        self.policy.check_prompt(request, remaining=remaining)
        references = read_references(request, self.retriever, remaining=remaining)
        self.policy.check_references(references.neighbors.neighbors, remaining=remaining)
        return references

    def _find(self, request: GenerationRequest, k: int, handle: RequestHandle) -> Neighbors:
        if k == 0:
            return Neighbors(nothing_found=_RETRIEVAL_OFF)
        found = self.retriever.search(
            request.prompt,
            k=k,
            method=request.retrieval.method,
            per_entity=request.retrieval.per_entity,
            minimum_score=request.retrieval.minimum_score,
            relevance=request.retrieval.relevance,
            explain=request.retrieval.explain,
            filters=Filters(
                licenses=request.retrieval.licenses,
                sources=request.retrieval.sources,
                minimum_side=request.retrieval.minimum_side,
                safe_only=request.retrieval.safe_only,
                exclude_ids=request.retrieval.exclude_ids,
            ),
            remaining=handle.remaining(),
        )
        if self.model.relevant_only:
            found = replace(found, neighbors=tuple(relevant(request.prompt, found.neighbors)))
        return self.policy.permitted(found, remaining=handle.remaining())

    def _write(
        self,
        request: GenerationRequest,
        task: GenerationTask,
        size: int,
        grounding: Neighbors,
        finished: ImagesEvent,
        owner: str,
    ) -> Iterator[Image]:
        media_type = MEDIA_TYPES[request.output_format]
        for index, pixels in enumerate(finished.images, start=finished.index):
            seed = task.seeds[index] if self.model.has_seeds else None
            origin = provenance.Provenance(
                prompt=request.prompt,
                seed=seed,
                size=size,
                cascade=self.model.name,
                neighbors=tuple(
                    provenance.Source(
                        neighbor.id,
                        neighbor.caption,
                        neighbor.source,
                        neighbor.license,
                        neighbor.weight,
                        neighbor.cut_out,
                    )
                    for neighbor in grounding.neighbors
                    if neighbor.weight
                ),
                revision=grounding.revision,
                guidance=request.guidance.model_dump(mode="json", exclude_none=True),
                quality=request.quality,
                settings=provenance.settings_of(request),
                references=bool(request.references),
                created=int(time.time()) if self._signer else None,
            )
            with tracing.span("encode"), metrics.ENCODE_SECONDS.time():
                number = provenance.image_number(origin, pixels)
                mark = embedded(pixels, number) if self._watermark else None
                if self._watermark:
                    pixels = embed(pixels, number)
                image = provenance.encode(pixels, request.output_format, origin, request.output_compression)
                if self._signer:
                    image = self._signer.sign(image, media_type, origin, grounding.neighbors, mark)
            if self._log:
                self._log.add(pixels, number, origin, owner=owner)
            yield Image(
                index=index,
                seed=seed,
                image=image,
                media_type=media_type,
                size=size,
            )


def _patiently(ask: Callable[[], _Answer], handle: RequestHandle, priority: Priority) -> _Answer:
    """Return the retriever's answer. In the background, ask again while it is overloaded or down."""
    enough = handle.remaining() * (1 - _OUTAGE_SHARE)
    while True:
        try:
            return ask()
        except (Overloaded, Unavailable) as error:
            pause = max(error.retry_after or 0, _SHORTEST_PAUSE)
            if priority is not Priority.BACKGROUND or handle.remaining() - pause < enough:
                raise
            _logger.info("waiting for the retriever", extra={"call": handle.id, "reason": error.message})
        handle.pause(pause)


def _hashed(user: str) -> str:
    """Return 16 hex digits of the SHA-256 of a user's id, so that the log distinguishes users without naming them."""
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:16]
