"""The format of a log line, as a process writes it."""

import subprocess
import sys

CODE = """
import logging, warnings
from reimagen_common.logs import configure_logging

configure_logging("sample", "info")
log = logging.getLogger("a.b")
log.debug("unseen")
log.info("two words", extra={"seconds": 0.25, "prompt": 'a "fox"\\nlevel=error', "empty": "", "kept": "größe"})
warnings.warn("mind the gap")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def test_each_record_is_one_line_of_fields() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout == ""
    said, warned, failed = done.stderr.splitlines()
    assert "level=info service=sample logger=a.b" in said
    assert 'msg="two words" seconds=0.25 prompt="a \\"fox\\"\\nlevel=error" empty="" kept=größe' in said
    assert said.startswith("time=20")
    assert "level=warning" in warned
    assert "mind the gap" in warned
    assert "level=error" in failed
    assert "ZeroDivisionError" in failed
