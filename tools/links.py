"""Check the relative links and anchors of all Markdown pages; `make lint` runs it.

External addresses are not checked: lint must pass without a network.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\((?P<target>[^)\s]+)[^)]*\)|<img[^>]+src=\"(?P<source>[^\"]+)\"")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
_CODE_BLOCK = re.compile(r"^(```.*?^```|( {4}|\t).*?$)", re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    found = set(re.findall(r"<a id=\"([^\"]+)\"", page))
    for heading in _HEADING.findall(_CODE_BLOCK.sub("", page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def broken(path: Path) -> Iterator[str]:
    """Yield a message for each link of a page that leads nowhere."""
    text = _CODE_BLOCK.sub("", path.read_text(encoding="utf-8"))
    for link in _LINK.finditer(text):
        target = link["target"] or link["source"]
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        aim = (path.parent / file).resolve() if file else path
        if not aim.exists():
            yield f"{path.relative_to(ROOT)}: {target}: there is no such file"
        elif anchor and aim.suffix == ".md" and anchor not in anchors(aim.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}: {target}: the page has no such heading"


def main() -> None:
    """Print all broken links; exit with 1 if there are any."""
    pages = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    messages = [message for page in pages.split() for message in broken(ROOT / page)]
    sys.stderr.writelines(f"{message}\n" for message in messages)
    sys.exit(bool(messages))


if __name__ == "__main__":
    main()
