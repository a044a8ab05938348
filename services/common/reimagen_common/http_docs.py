"""The page at /docs. The service serves all of its files, so that it works offline and contacts no third party."""

from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

from reimagen_common.errors import NotFound

_HEADERS: Final = {
    # Swagger UI uses style attributes, and shows downloaded images from blobs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# URLs are relative, so that the page works below any public path.
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = b"""SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, showExtensions: true,
});
"""
_MEDIA_TYPES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
    "start.js": "text/javascript",
}


def add_docs(app: FastAPI) -> None:
    """Serve /docs, a page that shows the application's /openapi.json. Create the application with `docs_url=None`."""

    @app.get("/docs", include_in_schema=False)
    async def read_docs() -> HTMLResponse:
        return HTMLResponse(_PAGE.format(title=escape(app.title)), headers=_HEADERS)

    @app.get("/docs/{name}", include_in_schema=False)
    async def read_docs_file(name: str) -> Response:
        if name not in _MEDIA_TYPES:
            raise NotFound(f"there is no file {name!r} of the documentation")
        return Response(_read(name), media_type=_MEDIA_TYPES[name], headers=_HEADERS)


@cache
def _read(name: str) -> bytes:
    if name == "start.js":
        return _START
    return (files("fastapi_offline") / "static" / name).read_bytes()
