"""The routes of uploaded files, in the shape of OpenAI's."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Request, Response, params
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from reimagen_common.errors import InvalidArgument
from reimagen_common.http_openapi import binary
from reimagen_generator.api.http.admission import admitting_route
from reimagen_generator.api.http.edits import read_form
from reimagen_generator.api.http.forms import parse_fields
from reimagen_generator.generation.owner import current_owner
from reimagen_generator.generation.uploads import Purpose, Upload, UploadStore

_FORM: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "title": "UploadForm",
                "properties": {
                    "file": {
                        "type": "string",
                        "contentMediaType": "application/octet-stream",
                        "description": "Image file of at most 4 MiB and 64 megapixels.",
                    },
                    "purpose": {
                        "enum": ["vision", "user_data"],
                        "description": "OpenAI's purpose of the file. Both are the same here.",
                    },
                },
                "required": ["file", "purpose"],
                "additionalProperties": False,
            }
        }
    },
}
_OTHER_SITE: Final[dict[int | str, dict[str, Any]]] = {
    403: {"description": "The request comes from a page of another site."}
}
_MISSING: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "No such file of yours, or it has expired."}}
_CONTENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file.", "content": binary("application/octet-stream")}
}

FileId = Annotated[str, Path(alias="id", min_length=1, description="Id of the file.")]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")

    purpose: Purpose


class FileData(BaseModel):
    """An uploaded file, in the shape of OpenAI's API."""

    id: str = Field(description="Id of the file, for `references`.")
    object: Literal["file"] = "file"
    bytes: int = Field(description="Size of the file in bytes.")
    created_at: int = Field(description="Time of the upload, in seconds since 1970.")
    expires_at: int = Field(description="Time of expiry, in seconds since 1970.")
    filename: str = Field(description="Name of the file.")
    purpose: Purpose = Field(description="Purpose of the file.")
    status: Literal["processed"] = "processed"


class FileList(BaseModel):
    """All uploaded files, newest first."""

    object: Literal["list"] = "list"
    data: list[FileData] = Field(description="Files, newest first.")
    has_more: Literal[False] = False


class DeletedFile(BaseModel):
    """The outcome of deleting a file."""

    id: str = Field(description="Id of the file.")
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def uploads_router(uploads: UploadStore, own_site: params.Depends) -> APIRouter:
    """Return the routes of uploaded files; `own_site` refuses uploads by pages of other sites."""
    router = APIRouter(prefix="/v1/files", tags=["files"], route_class=admitting_route(uploads.admit))

    @router.post(
        "",
        openapi_extra={"requestBody": _FORM},
        responses=_OTHER_SITE,
        dependencies=[own_site],
    )
    async def upload_file(request: Request) -> FileData:
        """Upload an image, to use it as a reference of several requests: `references: [{"id": ..., "caption": ...}]`.

        Files are kept in memory until they expire; a restart of the service forgets them.
        """
        form = await read_form(request, files=1)
        try:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise InvalidArgument("must be an image file", field="file")
            texts = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
            fields = parse_fields(texts, _Fields)
            content = await file.read()
        finally:
            await form.close()
        upload = await run_in_threadpool(
            uploads.add, content, name=file.filename or "", purpose=fields.purpose, owner=current_owner()
        )
        return _data(upload)

    @router.get("")
    async def list_files() -> FileList:
        """List your files, newest first."""
        return FileList(data=[_data(upload) for upload in uploads.list(owner=current_owner())])

    @router.get("/{id}", responses=_MISSING)
    async def read_file(file_id: FileId) -> FileData:
        """Describe a file."""
        return _data(uploads.get(file_id, owner=current_owner()))

    @router.get("/{id}/content", response_class=Response, responses=_MISSING | _CONTENT)
    async def read_content(file_id: FileId) -> Response:
        """Return a file as it was uploaded."""
        upload = uploads.get(file_id, owner=current_owner())
        headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
        return Response(upload.content, media_type="application/octet-stream", headers=headers)

    @router.delete("/{id}", responses=_MISSING)
    async def delete_file(file_id: FileId) -> DeletedFile:
        """Delete a file."""
        uploads.delete(file_id, owner=current_owner())
        return DeletedFile(id=file_id)

    return router


def _data(upload: Upload) -> FileData:
    return FileData(
        id=upload.id,
        bytes=len(upload.content),
        created_at=int(upload.created),
        expires_at=int(upload.expires),
        filename=upload.name,
        purpose=upload.purpose,
    )
