"""Server-sent events: the parser of the format, and the events of images and jobs."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from reimagen_client.errors import ReimagenError, ServerError, Unavailable, error_of_kind
from reimagen_client.models import (
    Done,
    Event,
    Image,
    JobEvent,
    JobImage,
    JobImageDone,
    JobStatusChanged,
    Model,
    Preview,
    Progress,
    Retrieved,
    Usage,
)

_END: Final = "[DONE]"
"""The data with which some services of OpenAI's API end a stream."""

_Result = TypeVar("_Result", bound=Model)


@dataclass
class LineSplitter:
    """A splitter of a stream's text into lines.

    Other splitters also split at characters such as U+2028, which JSON may contain.
    """

    _parts: list[str] = field(default_factory=list)

    def feed(self, text: str) -> list[str]:
        """Return the lines that a part of the text ends. The end of the stream ends no line."""
        first, *others = text.split("\n")
        self._parts.append(first)
        lines = []
        for other in others:
            lines.append("".join(self._parts).removesuffix("\r"))
            self._parts = [other]
        return lines


@dataclass
class SseParser:
    """A parser of server-sent events, fed line by line."""

    last_id: str = ""
    """Id of the last event that had one."""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> dict[str, Any] | None:
        """Return the JSON object of an event if the line ends one that has data.

        Raises:
            ServerError: The data is no JSON object.
        """
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "id":
                self.last_id = value
            return None
        text, self._data = "\n".join(self._data), []
        if not text or text == _END:
            return None
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ServerError(f"the stream has an event that is no JSON: {text[:80]!r}") from error
        if not isinstance(data, dict):
            raise ServerError(f"the stream has an event that is no JSON object: {text[:80]!r}")
        return data


def parse(model: type[_Result], data: object) -> _Result:
    """Return the result that JSON values describe.

    Raises:
        ServerError: A field is missing or invalid. The error names it.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ServerError(f"cannot understand the answer: {where}: {first['msg']}") from error


def content_of(data: dict[str, Any]) -> bytes:
    """Return the image file in `b64_json`.

    Raises:
        ServerError: There is none, or it is no base64.
    """
    try:
        return base64.b64decode(data["b64_json"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError("cannot understand the answer: it has no image in b64_json") from error


def image_of(data: dict[str, Any], prompt: str, index: int) -> Image:
    """Return the image of an answer or event."""
    return Image(index=index, seed=data.get("seed"), content=content_of(data), prompt=prompt)


@dataclass
class ImageEvents:
    """The events of a stream of n images."""

    prompt: str
    n: int
    parser: SseParser = field(default_factory=SseParser)
    _done: int = 0

    def feed(self, line: str) -> Event | None:
        """Return the event that a line ends, if any. Events of other types are skipped.

        Raises:
            ReimagenError: The event reports an error, or cannot be understood.
        """
        data = self.parser.feed(line)
        if data is None:
            return None
        kind = str(data.get("type"))
        if kind == "error":
            raise error_of_kind(data.get("error") or {})
        match kind.rpartition(".")[2]:
            case "neighbors":
                return parse(Retrieved, data)
            case "progress":
                return parse(Progress, data)
            case "partial_image":
                return Preview(number=data.get("partial_image_index") or 0, content=content_of(data))
            case "completed":
                image = image_of(data, self.prompt, data.get("index", self._done))
                self._done += 1
                return Done(image=image, usage=parse(Usage, data["usage"]) if data.get("usage") else None)
        return None

    def check_end(self) -> None:
        """Raise Unavailable if the stream ended before its last image."""
        if self._done < self.n:
            raise Unavailable(f"the stream ended after {self._done} of {self.n} images; retry the request")


@dataclass
class JobEvents:
    """The events of a job, over as many streams as are needed."""

    last_id: str = ""
    """Id of the last event of earlier streams."""
    ended: bool = False
    """Whether the job has ended."""
    _parser: SseParser = field(default_factory=SseParser)

    def feed(self, line: str) -> list[JobEvent]:
        """Return the events that a line ends, if any.

        Raises:
            ServerError: The event cannot be understood.
        """
        events = _job_events(self._parser.feed(line) or {})
        self.ended |= any(isinstance(event, JobStatusChanged) and event.ended for event in events)
        return events

    def resume(self, error: ReimagenError | None) -> None:
        """Prepare for another stream after one that ended early, by an error if there is one.

        Raises:
            ReimagenError: The stream had no event, so that another one may have none either.
        """
        if self._parser.last_id in ("", self.last_id):
            raise error or Unavailable("the stream of the job's events ended before the job; watch it again")
        self.last_id = self._parser.last_id
        self._parser = SseParser(self.last_id)


def _job_events(data: dict[str, Any]) -> list[JobEvent]:
    """Return the events that one event of a job contains: a step may have a preview.

    Raises:
        ServerError: The event cannot be understood.
    """
    match str(data.get("type")).removeprefix("job."):
        case "queued" | "running" | "completed" | "failed" | "cancelled" as status:
            return [parse(JobStatusChanged, {"status": status, "error": data.get("error")})]
        case "neighbors":
            return [parse(Retrieved, data)]
        case "progress":
            step: list[JobEvent] = [parse(Progress, data)]
            return [*step, Preview(content=content_of(data))] if data.get("b64_json") else step
        case "image":
            return [JobImageDone(image=parse(JobImage, data))]
    return []
