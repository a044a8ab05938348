"""The page at /: static files of this package. It loads nothing from other hosts, and talks to this service only."""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

from fastapi import APIRouter, Request, Response

from reimagen_common.errors import NotFound

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        # Blobs are images that the browser made or that were read with a key.
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_COMPRESSED: Final = (".html", ".js", ".css", ".svg", ".txt")
_INDEX: Final = "index.html"
_STYLES: Final = "styles/"
_SCRIPTS: Final = ("bundle.js", "theme.js")
# The name of a file contains the version of all files, so that a file with this name never changes.
_FOREVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"


@dataclass(frozen=True)
class _Asset:
    """A file of the page, as it is and compressed."""

    content: bytes
    compressed: bytes | None
    media_type: str
    etag: str


def page_router() -> APIRouter:
    """Return the routes of the page and its files."""
    router = APIRouter(include_in_schema=False)
    current, assets = _load()

    @router.get("/")
    async def read_page(request: Request) -> Response:
        return _answer(request, assets[_INDEX], cache_control=_ASK_AGAIN)

    @router.get("/page/{version}/{name:path}")
    async def read_page_file(version: str, name: str, request: Request) -> Response:
        if name not in assets or name == _INDEX:
            raise NotFound(f"the page has no file {name!r}")
        # A page that was open during an update asks for files of the earlier version, and gets the current ones.
        return _answer(request, assets[name], cache_control=_FOREVER if version == current else _ASK_AGAIN)

    return router


def _answer(request: Request, asset: _Asset, *, cache_control: str) -> Response:
    headers = _HEADERS | {"Cache-Control": cache_control, "ETag": asset.etag}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if asset.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(asset.compressed, media_type=asset.media_type, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


@cache
def _load() -> tuple[str, Mapping[str, _Asset]]:
    """Return the version of the page, a digest of its files, and the files by their names."""
    contents = dict(sorted(_walk(files("reimagen_generator") / "page", "")))
    # One request in place of several that the first paint would wait for.
    styles = [contents.pop(name) for name in list(contents) if name.startswith(_STYLES)]
    contents[f"{_STYLES}all.css"] = b"\n".join(styles)
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    version = digest.hexdigest()[:16]
    contents[_INDEX] = contents[_INDEX].replace(b"{version}", version.encode())
    return version, {name: _asset(name, content) for name, content in contents.items()}


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif PurePosixPath(entry.name).suffix in _MEDIA_TYPES and not _is_module(prefix + entry.name):
            yield prefix + entry.name, entry.read_bytes()


def _is_module(name: str) -> bool:
    """Return whether a file is a module, which is part of the bundle."""
    return name.endswith(".js") and name not in _SCRIPTS


def _asset(name: str, content: bytes) -> _Asset:
    suffix = PurePosixPath(name).suffix
    return _Asset(
        content=content,
        compressed=gzip.compress(content, mtime=0) if suffix in _COMPRESSED else None,
        media_type=_MEDIA_TYPES[suffix],
        etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    )
