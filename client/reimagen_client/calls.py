"""The calls of the REST API, shared by both clients: each says what to send and how to read the answer."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import httpx

from reimagen_client.errors import InvalidRequest, JobFailed, ServerError
from reimagen_client.events import ImageEvents, image_of, parse
from reimagen_client.knowledge_models import Added, Found, Pair, PairUses, Removed
from reimagen_client.models import (
    Cascade,
    CutOut,
    File,
    Generation,
    Image,
    Job,
    JobImage,
    JobPage,
    JobStatus,
    Model,
    Verification,
)
from reimagen_client.options import PREVIEWS, Reference, body_of, read_image, reference_body

T = TypeVar("T")
_Result = TypeVar("_Result", bound=Model)

LAST_EVENT_ID: Final = "Last-Event-ID"
IDEMPOTENCY_KEY: Final = "Idempotency-Key"


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request and the parser of its answer."""

    method: str
    """HTTP method."""
    path: str
    """Path after the base URL."""
    read: Callable[[httpx.Response], T]
    """Returns the result from a successful response."""
    repeatable: bool = True
    """Whether the request can be sent again after its connection broke, without doing anything twice."""
    json: Mapping[str, Any] | None = None
    """JSON body."""
    params: Mapping[str, Any] | None = None
    """Query parameters."""
    data: Mapping[str, Any] | None = None
    """Text fields of a form."""
    files: Sequence[tuple[str, tuple[str, bytes]]] | None = None
    """Files of a form: field, name and content."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers in addition to those of the client."""

    def request(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Return the HTTP request of a client."""
        return client.build_request(
            self.method,
            self.path,
            json=self.json,
            params=self.params,
            data=self.data,
            files=self.files,
            headers=self.headers,
        )


def generate(prompt: str, options: Mapping[str, Any]) -> Call[Generation]:
    """Return the call that draws images and answers when all are finished."""
    body = body_of(prompt, options)
    return Call("POST", "/images/generations", partial(_generation, prompt), json=body, headers=_new_key())


def cut_out(image: bytes | str | Path | Reference) -> Call[CutOut]:
    """Return the call that cuts the object of an image, or of a reference, out."""
    reference = image if isinstance(image, Reference) else Reference(image=image)
    return Call("POST", "/images/cut-outs", partial(_model, CutOut), json=reference_body(reference, ""))


def stream(prompt: str, options: Mapping[str, Any], previews: int) -> Call[ImageEvents]:
    """Return the call that draws images and answers with events. Such a call has no idempotency key."""
    body = body_of(prompt, options) | {"stream": True}
    if previews:
        body[PREVIEWS] = previews
    n = options.get("n") or 1
    return Call("POST", "/images/generations", lambda _: ImageEvents(prompt, n), repeatable=False, json=body)


def create_job(prompt: str, options: Mapping[str, Any], previews: int) -> Call[Job]:
    """Return the call that creates a job."""
    body = body_of(prompt, options)
    if previews:
        body[PREVIEWS] = previews
    return Call("POST", "/jobs", partial(_model, Job), json=body, headers=_new_key())


def get_job(job_id: str) -> Call[Job]:
    """Return the call that reads a job."""
    return Call("GET", _path("/jobs", job_id), partial(_model, Job))


def list_jobs(limit: int, after: str | None, status: JobStatus | None) -> Call[JobPage]:
    """Return the call that lists jobs."""
    params = {"limit": limit, "after": after, "status": status}
    given = {name: value for name, value in params.items() if value is not None}
    return Call("GET", "/jobs", partial(_model, JobPage), params=given)


def cancel_job(job_id: str) -> Call[Job]:
    """Return the call that cancels a job."""
    return Call("DELETE", _path("/jobs", job_id), partial(_model, Job))


def watch_job(job_id: str, after: str) -> Call[bool]:
    """Return the call that answers with the events of a job after one. Its result says whether there are any."""
    headers = {LAST_EVENT_ID: after or "0"}
    return Call("GET", f"{_path('/jobs', job_id)}/events", lambda answer: answer.status_code != 204, headers=headers)


def job_image(job_id: str, index: int) -> Call[bytes]:
    """Return the call that reads an image of a job."""
    return Call("GET", f"{_path('/jobs', job_id)}/images/{index}", _content)


def completed(job: Job) -> Job:
    """Return a job that ended.

    Raises:
        JobFailed: It failed or was cancelled.
    """
    if job.status == "completed":
        return job
    error = job.error or {}
    message = error.get("message") or f"the job is {job.status}"
    raise JobFailed(f"{job.id}: {message}", field=error.get("param"), code=error.get("code"))


def drawn(job: Job, image: JobImage, content: bytes) -> Image:
    """Return an image of a job with the content of its file."""
    return Image(index=image.index, seed=image.seed, content=content, prompt=job.request.get("prompt", ""))


def upload(image: bytes | str | Path) -> Call[File]:
    """Return the call that uploads an image. An upload that is repeated leaves a second file, which expires."""
    name = "image" if isinstance(image, bytes) else Path(image).name
    files = [("file", (name, read_image(image, field="file")))]
    return Call("POST", "/files", partial(_model, File), data={"purpose": "vision"}, files=files)


def list_files() -> Call[tuple[File, ...]]:
    """Return the call that lists the uploaded files."""
    return Call("GET", "/files", partial(_models, File))


def get_file(file_id: str) -> Call[File]:
    """Return the call that describes an uploaded file."""
    return Call("GET", _path("/files", file_id), partial(_model, File))


def delete_file(file_id: str) -> Call[None]:
    """Return the call that deletes an uploaded file."""
    return Call("DELETE", _path("/files", file_id), _nothing, repeatable=False)


def search(query: str, options: Mapping[str, Any]) -> Call[Found]:
    """Return the call that searches the knowledge base. The body keeps the query out of access logs."""
    body = {"query": query} | {name: value for name, value in options.items() if value is not None}
    return Call("POST", "/knowledge/search", partial(_model, Found), json=body)


def add(
    images: Sequence[bytes | str | Path],
    captions: Sequence[str],
    ids: Sequence[str] = (),
    source: str = "",
    license: str = "",  # noqa: A002
) -> Call[Added]:
    """Return the call that adds pairs. Repeating it changes nothing: pairs of the same ids are replaced.

    Raises:
        InvalidRequest: The numbers of images, captions and ids differ.
    """
    for name, given in (("caption", captions), ("id", ids)):
        if len(given) != len(images) and (given or name == "caption"):
            raise InvalidRequest(
                f"{name}: must be given once for each of the {len(images)} images, got {len(given)}", field=name
            )
    data = {"caption": list(captions), "id": list(ids), "source": source, "license": license}
    files = [("image", (f"{number}", read_image(image, field="image"))) for number, image in enumerate(images)]
    return Call("POST", "/knowledge/pairs", partial(_model, Added), data=data, files=files)


def get_pair(pair_id: str) -> Call[Pair]:
    """Return the call that describes a pair."""
    return Call("GET", _path("/knowledge/pairs", pair_id), partial(_model, Pair))


def pair_image(pair_id: str) -> Call[bytes]:
    """Return the call that reads the image of a pair."""
    return Call("GET", f"{_path('/pairs', pair_id)}/image", _content)


def remove(pair_id: str) -> Call[Removed]:
    """Return the call that removes a pair."""
    return Call("DELETE", _path("/knowledge/pairs", pair_id), partial(_model, Removed), repeatable=False)


def uses(pair_id: str) -> Call[PairUses]:
    """Return the call that lists the kept images that are grounded on a pair."""
    return Call("GET", _path("/knowledge/uses", pair_id), partial(_model, PairUses))


def verify(image: bytes | str | Path) -> Call[Verification]:
    """Return the call that verifies the origin of an image file."""
    name = "image" if isinstance(image, bytes) else Path(image).name
    return Call(
        "POST", "/verify", partial(_model, Verification), files=[("image", (name, read_image(image, field="image")))]
    )


def models() -> Call[tuple[Cascade, ...]]:
    """Return the call that lists the loaded cascades."""
    return Call("GET", "/models", partial(_models, Cascade))


def _new_key() -> dict[str, str]:
    return {IDEMPOTENCY_KEY: str(uuid.uuid4())}


def _path(prefix: str, name: str) -> str:
    if not name or set(name) == {"."}:
        raise InvalidRequest(f"id: must be an id, got {name!r}", field="id")
    return f"{prefix}/{quote(name, safe='')}"


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise ServerError(f"the answer of {response.request.url} is no JSON; is the base URL right?") from error


def _model(model: type[_Result], response: httpx.Response) -> _Result:
    return parse(model, _json(response))


def _models(model: type[_Result], response: httpx.Response) -> tuple[_Result, ...]:
    return tuple(parse(model, item) for item in _list(_json(response)))


def _list(body: object) -> list[Any]:
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        raise ServerError("cannot understand the answer: it has no list `data`")
    items: list[Any] = body["data"]
    return items


def _generation(prompt: str, response: httpx.Response) -> Generation:
    body = _json(response)
    images = tuple(image_of(item, prompt, index) for index, item in enumerate(_list(body)))
    return parse(Generation, body | {"images": images})


def _content(response: httpx.Response) -> bytes:
    return response.content


def _nothing(_response: httpx.Response) -> None:
    return None
