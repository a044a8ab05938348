"""Images that callers upload once and use as references of several requests by their ids."""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from reimagen_common.errors import InvalidArgument, NotFound, Overloaded
from reimagen_generator.diffusion.references import decode
from reimagen_generator.generation.request import GenerationRequest
from reimagen_generator.generation.request_parts import REFERENCE_BYTES, Reference

_ID_BYTES: Final = 18
_RETRY_SECONDS: Final = 60.0

Purpose = Literal["vision", "user_data"]
"""OpenAI's purposes of images. Both are the same here."""

_Request = TypeVar("_Request", bound=GenerationRequest)


@dataclass(frozen=True)
class Upload:
    """An uploaded image."""

    id: str
    owner: str
    name: str
    """Name of the file, as the caller sent it."""
    purpose: Purpose
    content: bytes
    created: float
    """Time of the upload, in seconds since 1970."""
    expires: float
    """Time of expiry, in seconds since 1970."""


class UploadStore:
    """A store of uploads in memory. All methods are thread-safe."""

    def __init__(self, *, seconds: float, maximum_bytes: int) -> None:
        """Create an empty store.

        Args:
            seconds: Time until an upload expires.
            maximum_bytes: Maximum total size of all uploads.
        """
        self._seconds = seconds
        self._maximum_bytes = maximum_bytes
        self._lock = threading.Lock()
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._bytes = 0

    def admit(self) -> None:
        """Raise an error if no upload is accepted now.

        Raises:
            Overloaded: The store is full.
        """
        with self._lock:
            self._make_place(1)

    def add(self, content: bytes, *, name: str, purpose: Purpose, owner: str) -> Upload:
        """Store an image.

        Raises:
            InvalidArgument: The file is not a readable image of at most 4 MiB and 64 megapixels.
            Overloaded: The store is full.
        """
        if not 1 <= len(content) <= REFERENCE_BYTES:
            raise InvalidArgument(
                f"must be a file of 1 to {REFERENCE_BYTES:,} bytes, got {len(content):,}", field="file"
            )
        decode(content, field="file")
        now = time.time()
        upload = Upload(
            id=f"file-{secrets.token_urlsafe(_ID_BYTES)}",
            owner=owner,
            name=name,
            purpose=purpose,
            content=content,
            created=now,
            expires=now + self._seconds,
        )
        with self._lock:
            self._make_place(len(content))
            self._uploads[upload.id] = upload
            self._bytes += len(content)
        return upload

    def get(self, upload_id: str, *, owner: str) -> Upload:
        """Return an upload.

        Raises:
            NotFound: The owner has no such upload, or it has expired.
        """
        with self._lock:
            self._drop_expired()
            upload = self._uploads.get(upload_id)
        if upload is None or upload.owner != owner:
            raise NotFound("there is no such file; files expire, so upload it again", field="id")
        return upload

    def list(self, *, owner: str) -> list[Upload]:
        """Return the owner's uploads, newest first."""
        with self._lock:
            self._drop_expired()
            return [upload for upload in reversed(self._uploads.values()) if upload.owner == owner]

    def delete(self, upload_id: str, *, owner: str) -> None:
        """Delete an upload.

        Raises:
            NotFound: The owner has no such upload, or it has expired.
        """
        self.get(upload_id, owner=owner)
        with self._lock:
            self._drop(upload_id)

    def resolve(self, request: _Request, *, owner: str) -> _Request:
        """Return the request with the images of the uploads that its references name.

        Raises:
            InvalidArgument: A reference names no upload of the owner. The error names the reference.
        """
        if all(reference.id is None for reference in request.references):
            return request
        references = [
            self.resolve_one(reference, owner=owner, field=f"references.{number}.id")
            for number, reference in enumerate(request.references)
        ]
        return request.model_copy(update={"references": tuple(references)})

    def resolve_one(self, reference: Reference, *, owner: str, field: str = "id") -> Reference:
        """Return a reference with the image of the upload that it names.

        Raises:
            InvalidArgument: It names no upload of the owner; the error names `field`.
        """
        if reference.id is None:
            return reference
        try:
            upload = self.get(reference.id, owner=owner)
        except NotFound as error:
            raise InvalidArgument("names no file of yours; files expire, so upload it again", field=field) from error
        return reference.model_copy(update={"id": None, "image": upload.content})

    def _make_place(self, size: int) -> None:
        self._drop_expired()
        if self._bytes + size > self._maximum_bytes:
            raise Overloaded(
                f"uploads take {self._bytes:,} of {self._maximum_bytes:,} bytes; delete some, or try again later",
                retry_after=_RETRY_SECONDS,
            )

    def _drop_expired(self) -> None:
        now = time.time()
        while self._uploads and (oldest := next(iter(self._uploads.values()))).expires <= now:
            self._drop(oldest.id)

    def _drop(self, upload_id: str) -> None:
        dropped = self._uploads.pop(upload_id, None)
        self._bytes -= len(dropped.content) if dropped else 0
