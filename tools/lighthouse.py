"""Audit the page with Lighthouse, on a desktop and on a phone: `make lighthouse`.

A real retriever and a generator of the tiny cascade serve the page. Lighthouse comes from npm, locked by
`tools/package-lock.json`. The exit status is 1 if performance or accessibility is below 95.

Two more numbers come from Chromium itself: when the form is there on a slow network, where Lighthouse only estimates
when something is painted; and the processor time of the page, as Lighthouse's times include those of other processes.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, sync_playwright

from benchmarks.shared.machine import machine
from reimagen_generator.config.presets import TINY
from tests.browser.stack import PAIRS, png, serve
from tests.real_services import serving_pairs
from tools.npm import environment, program
from tools.screenshots import PHONE, find_browser

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
# Lighthouse's slow 4G, in ms and bytes a second.
_SLOW_NETWORK: Final = {"offline": False, "latency": 150, "downloadThroughput": 204_800, "uploadThroughput": 96_000}
RUNS: Final = 3
"""Performance differs from run to run; Lighthouse's authors advise to take the median."""

Report = dict[str, Any]


def audit(url: str, device: str) -> Report:
    """Return Lighthouse's report of a page.

    Raises:
        subprocess.CalledProcessError: Lighthouse failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [
            *program("lighthouse"),
            url,
            *DEVICES[device],
            f"--only-categories={','.join(CATEGORIES)}",
            "--output=json",
            f"--output-path={path}",
            "--quiet",
            # Chromium refuses its sandbox to root, as which containers often run.
            "--chrome-flags=--headless=new --no-sandbox",
        ]
        subprocess.run(command, env=environment() | {"CHROME_PATH": find_browser()}, check=True)
        report: Report = json.loads(path.read_text())
    return report


def load(browser: Browser, url: str) -> tuple[float, float]:
    """Load a page on a phone with a slow network; return when its form and examples are there, and its processor time.

    Both are in ms. The processor time is that of the page's main thread.
    """
    context = browser.new_context(**PHONE)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", _SLOW_NETWORK)
    page.goto(url, wait_until="commit")
    page.locator(".examples .chip").first.wait_for()
    ready: float = page.evaluate("performance.now()")
    metrics = {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}
    context.close()
    return ready, 1_000 * metrics["TaskDuration"]


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


def main() -> int:
    """Audit, print a table, and return the exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, weights = folder / "base", folder / "weights"
        base.mkdir()
        weights.mkdir()
        pairs = {pair_id: (caption, png(color)) for pair_id, (caption, color) in PAIRS.items()}
        with serving_pairs(base, pairs) as retriever, serve(TINY, weights, retriever) as stack:
            reports = {device: [audit(f"{stack.origin}/", device) for _ in range(RUNS)] for device in DEVICES}
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
                loads = [load(browser, f"{stack.origin}/") for _ in range(RUNS)]
                browser.close()
    version = reports["desktop"][0]["lighthouseVersion"]
    print(f"Lighthouse {version}, medians of {RUNS} runs; {machine()}")
    print(f"{'':9}" + "".join(f"{title:>16}" for title in (*CATEGORIES, *TIMES)))
    for device, runs in reports.items():
        values = [str(score(runs, category)) for category in CATEGORIES]
        values += [_median(runs, audit_id) for audit_id in TIMES.values()]
        print(f"{device:9}" + "".join(f"{value:>16}" for value in values))
    ready, busy = (statistics.median(values) for values in zip(*loads, strict=True))
    print(f"phone on slow 4G: form and examples after {ready:,.0f} ms; processor time of the page {busy:,.0f} ms")
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
