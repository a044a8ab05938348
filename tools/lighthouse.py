"""Audit the page with Lighthouse, on a desktop and on a phone: `make lighthouse`.

A real retriever and a generator of the tiny cascade serve the page. Lighthouse comes from npm, locked by
`tools/package-lock.json`. The exit status is 1 if performance or accessibility is below 95.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.shared.machine import machine
from reimagen_generator.config.presets import TINY
from tests.browser.stack import PAIRS, png, serve
from tests.real_services import serving_pairs
from tools.screenshots import find_browser

LEAST: Final = 95
CATEGORIES: Final = ("performance", "accessibility", "best-practices")
REQUIRED: Final = ("performance", "accessibility")
DEVICES: Final[Mapping[str, Sequence[str]]] = {"desktop": ["--preset=desktop"], "phone": ["--form-factor=mobile"]}
TIMES: Final = {
    "first paint": "first-contentful-paint",
    "largest paint": "largest-contentful-paint",
    "blocked": "total-blocking-time",
    "shift": "cumulative-layout-shift",
}
RUNS: Final = 3
"""Performance differs from run to run; Lighthouse's authors advise to take the median."""
_TOOLS: Final = Path(__file__).resolve().parent
_FOLDER: Final = _TOOLS.parent / "build" / "lighthouse"
_FILES: Final = ("package.json", "package-lock.json", ".npmrc")

Report = dict[str, Any]


def install() -> None:
    """Install the locked Lighthouse into `build/lighthouse`, unless it is there.

    Raises:
        subprocess.CalledProcessError: npm failed.
    """
    done = _FOLDER / "installed-lock.json"
    lock = (_TOOLS / "package-lock.json").read_bytes()
    if done.exists() and done.read_bytes() == lock:
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copy(_TOOLS / name, _FOLDER / name)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(command, cwd=_FOLDER, env=_environment(), check=True, stdout=subprocess.DEVNULL)
    done.write_bytes(lock)


def audit(url: str, device: str) -> Report:
    """Return Lighthouse's report of a page.

    Raises:
        subprocess.CalledProcessError: Lighthouse failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [
            "node",
            str(_FOLDER / "node_modules" / "lighthouse" / "cli" / "index.js"),
            url,
            *DEVICES[device],
            f"--only-categories={','.join(CATEGORIES)}",
            "--output=json",
            f"--output-path={path}",
            "--quiet",
            # Chromium refuses its sandbox to root, as which containers often run.
            "--chrome-flags=--headless=new --no-sandbox",
        ]
        subprocess.run(command, env=_environment() | {"CHROME_PATH": find_browser()}, check=True)
        report: Report = json.loads(path.read_text())
    return report


def score(reports: Sequence[Report], category: str) -> int:
    """Return the median of a category's scores, 0 to 100."""
    scores: list[float] = [report["categories"][category]["score"] for report in reports]
    return round(100 * statistics.median(scores))


def shortcomings(report: Report) -> list[str]:
    """Return what costs points, one line for each audit."""
    lines = []
    for category in CATEGORIES:
        for reference in report["categories"][category]["auditRefs"]:
            found = report["audits"][reference["id"]]
            if reference["weight"] and found["score"] is not None and found["score"] < 0.9:
                lines.append(f"{category}: {found['title']} {found.get('displayValue', '')}".rstrip())
    return lines


def _environment() -> dict[str, str]:
    # npm and node are in the folder of this Python, which is not on the PATH of an environment that is not activated.
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def main() -> int:
    """Audit, print a table, and return the exit status."""
    install()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, weights = folder / "base", folder / "weights"
        base.mkdir()
        weights.mkdir()
        pairs = {pair_id: (caption, png(color)) for pair_id, (caption, color) in PAIRS.items()}
        with serving_pairs(base, pairs) as retriever, serve(TINY, weights, retriever) as stack:
            reports = {device: [audit(f"{stack.origin}/", device) for _ in range(RUNS)] for device in DEVICES}
    version = reports["desktop"][0]["lighthouseVersion"]
    print(f"Lighthouse {version}, medians of {RUNS} runs; {machine()}")
    print(f"{'':9}" + "".join(f"{title:>16}" for title in (*CATEGORIES, *TIMES)))
    for device, runs in reports.items():
        values = [str(score(runs, category)) for category in CATEGORIES]
        values += [_median(runs, audit_id) for audit_id in TIMES.values()]
        print(f"{device:9}" + "".join(f"{value:>16}" for value in values))
    for device, runs in reports.items():
        for line in dict.fromkeys(line for run in runs for line in shortcomings(run)):
            print(f"{device}: {line}")
    enough = all(score(runs, category) >= LEAST for runs in reports.values() for category in REQUIRED)
    return 0 if enough else 1


def _median(reports: Sequence[Report], audit_id: str) -> str:
    value = statistics.median(report["audits"][audit_id]["numericValue"] for report in reports)
    return f"{value:.3f}" if audit_id == TIMES["shift"] else f"{value:,.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
