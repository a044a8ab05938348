"""Audit the page of a running service with Lighthouse: `python -m tools.lighthouse http://127.0.0.1:8000/`.

Needs Node's `npx`, which fetches Lighthouse, and a browser (see `tools/screenshots.py`). Fails if a score is below 95.
"""

import json
import os
import subprocess
import sys
from typing import Final

from tools.screenshots import find_browser

_VERSION: Final = "12.8.2"
_CATEGORIES: Final = ("performance", "accessibility", "best-practices")
_LEAST: Final = 95
_FORMS: Final = {"desktop": ["--preset=desktop"], "phone": []}
"""Lighthouse's options for each form of device; its default is a phone on a slow network."""


def scores(url: str, options: list[str]) -> dict[str, int]:
    """Return the scores of a page, 0 to 100, by category.

    Raises:
        subprocess.CalledProcessError: Lighthouse cannot audit the page; it has printed why.
    """
    command = ["npx", "--yes", f"lighthouse@{_VERSION}", url, *options, "--quiet", "--output=json"]
    command += [f"--only-categories={','.join(_CATEGORIES)}", "--chrome-flags=--headless=new --no-sandbox"]
    environment = os.environ | {"CHROME_PATH": find_browser()}
    report = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
    return {name: round(100 * report["categories"][name]["score"]) for name in _CATEGORIES}


if __name__ == "__main__":
    found = {form: scores(sys.argv[1], options) for form, options in _FORMS.items()}
    for form, of_form in found.items():
        print(f"{form}: {', '.join(f'{name} {score}' for name, score in of_form.items())}")  # noqa: T201
    sys.exit(min(min(of_form.values()) for of_form in found.values()) < _LEAST)
