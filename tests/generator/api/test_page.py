"""The page at / and its files."""

import gzip
import re
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import httpx
import pytest

from tools import page as page_tool

PACKAGE = files("reimagen_generator") / "page"


class Links(HTMLParser):
    """The addresses that a page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in values):
            self.inline += 1
        if tag in ("script", "link"):
            self.loaded.append(values.get("src") or values.get("href") or "")


@pytest.fixture(scope="module")
def page(served: Any) -> httpx.Response:
    response: httpx.Response = served.rest.get("/")
    return response


def test_the_page_loads_its_own_files_only(served: Any, page: httpx.Response) -> None:
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = Links(page.text)
    assert links.inline == 0
    types = {
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
        ".woff2": "font/woff2",
    }
    assert [name.rpartition("/")[2] for name in links.loaded if name.endswith(".js")] == ["theme.js", "bundle.js"]
    for name in links.loaded:
        file = served.rest.get(f"/{name}")
        assert file.status_code == 200, name
        assert file.headers["content-type"] == types[name[name.rindex(".") :]]
        assert file.headers["x-content-type-options"] == "nosniff"
        # A module would be loaded after the script that imports it.
        assert not re.search(r"^import\b", file.text, re.MULTILINE), name


def test_the_script_is_written_from_the_current_modules() -> None:
    assert page_tool.SCRIPT.read_text(encoding="utf-8").startswith(page_tool.head()), "run python -m tools.page"


def test_the_security_policy_forbids_other_hosts_and_inline_code(page: httpx.Response) -> None:
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert not re.search(r"https?:|unsafe|\*", policy)


def test_files_are_kept_and_the_page_is_asked_for_again(served: Any, page: httpx.Response) -> None:
    script = next(name for name in Links(page.text).loaded if name.endswith("bundle.js"))
    file = served.rest.get(f"/{script}")
    assert (page.headers["cache-control"], file.headers["cache-control"]) == (
        "no-cache",
        "public, max-age=31536000, immutable",
    )
    for path, response in (("/", page), (f"/{script}", file)):
        again = served.rest.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert served.rest.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    # A page that stayed open over an update.
    version = script.split("/")[1]
    old = served.rest.get("/" + script.replace(version, "0123456789abcdef"))
    assert (old.status_code, old.headers["cache-control"], old.content) == (200, "no-cache", file.content)


def test_texts_are_compressed_if_the_client_wants_it(served: Any, page: httpx.Response) -> None:
    script = next(name for name in Links(page.text).loaded if name.endswith("bundle.js"))
    with served.rest.stream("GET", f"/{script}", headers={"Accept-Encoding": "gzip"}) as response:
        compressed = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    plain = served.rest.get(f"/{script}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(compressed) == plain.content == (PACKAGE / "bundle.js").read_bytes()
    assert "Accept-Encoding" in plain.headers["vary"]


@pytest.mark.parametrize("name", ["index.html", "other.js", "app.js", "styles", "%2e%2e/rights.py", ""])
def test_other_files_are_not_found(served: Any, name: str) -> None:
    assert served.rest.get(f"/page/x/{name}").status_code == 404


def test_every_module_says_what_it_is_for_and_is_short() -> None:
    for folder in ("lib", "data", "service", "model", "view"):
        for module in (PACKAGE / folder).iterdir():
            text = module.read_text(encoding="utf-8")
            assert text.startswith("/** "), module
            assert len(text.splitlines()) < 350, module
