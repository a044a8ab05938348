"""Write the synchronous clients from the asynchronous ones: `python -m tools.sync_clients`.

Both have every method in full, with types and docstrings, as editors show them. Only the asynchronous ones are edited.
A test compares the files with what this writes.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parents[1] / "client" / "reimagen_client"
CLIENTS: Final = {"async_client.py": "client.py", "async_grpc_client.py": "grpc_client.py"}
_MARK: Final = "\n\n# Written from {source} by tools/sync_clients.py. Edit that file instead.\n"
_SUBSTITUTIONS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\bAsyncGenerator\[(\w+), None\]", r"Generator[\1, None, None]"),
        (r"\bAsync(?=[A-Z])", ""),
        (r"\basync (?=def|with|for)", ""),
        (r"\bawait ", ""),
        (r"\b__a(?=enter__|exit__)", "__"),
        (r"\ba(?=closing\b|close\b|read\b|iter_text\b)", ""),
        (r"\bgrpc\.aio\b", "grpc"),
        (r"\basyncio\b", "time"),
        (r"\bThe asynchronous\b", "The synchronous"),
        (r"\ban asynchronous context manager\b", "a context manager"),
        (r"\bTasks of one event loop\b", "Threads"),
    )
)


def synchronous(source: Path) -> str:
    """Return the synchronous form of an asynchronous client.

    Raises:
        subprocess.CalledProcessError: Ruff rejects the result.
    """
    text = source.read_text(encoding="utf-8")
    for pattern, replacement in _SUBSTITUTIONS:
        text = pattern.sub(replacement, text)
    docstring, _, rest = text.partition("\n\n")
    marked = docstring + _MARK.format(source=source.name) + "\n" + rest
    # Without await, loops that yield become `yield from`: Ruff calls that unsafe, since it passes on what is sent.
    return _ruff("format", _ruff("check", marked, "--fix", "--unsafe-fixes", "--quiet"))


def _ruff(command: str, text: str, *options: str) -> str:
    name = str(FOLDER / "client.py")
    arguments = [sys.executable, "-m", "ruff", command, *options, "--stdin-filename", name, "-"]
    return subprocess.run(arguments, input=text, capture_output=True, check=True, text=True, encoding="utf-8").stdout


if __name__ == "__main__":
    for name, written in CLIENTS.items():
        (FOLDER / written).write_text(synchronous(FOLDER / name), encoding="utf-8")
