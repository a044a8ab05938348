"""Write the one script of the page from its modules: `python -m tools.page`.

A browser loads six files at a time from a server without HTTP/2, so the modules would take several rounds. The script
is committed: no installation needs Node. A test compares its first lines with the modules.
"""

import hashlib
import subprocess
from pathlib import Path
from typing import Final

from tools.npm import environment, program

FOLDER: Final = Path(__file__).resolve().parents[1] / "services" / "generator" / "reimagen_generator" / "page"
SCRIPT: Final = FOLDER / "bundle.js"
_WHOLE: Final = (SCRIPT, FOLDER / "theme.js")
"""Scripts that are no modules."""


def head() -> str:
    """Return the first lines of the script, which state the modules that it was written from."""
    digest = hashlib.sha256()
    for module in sorted(FOLDER.rglob("*.js")):
        if module not in _WHOLE:
            digest.update(f"{module.relative_to(FOLDER).as_posix()}\0".encode())
            digest.update(hashlib.sha256(module.read_bytes()).digest())
    return (
        "// Written from app.js and the modules that it imports by `python -m tools.page`. Edit those instead.\n"
        f"// Their digest: {digest.hexdigest()}\n"
    )


def main() -> None:
    """Write the script."""
    command = [*program("esbuild"), "app.js", "--bundle", "--format=esm", "--charset=utf8", "--log-level=warning"]
    script = subprocess.run(command, cwd=FOLDER, env=environment(), check=True, stdout=subprocess.PIPE).stdout
    SCRIPT.write_bytes(head().encode() + script)


if __name__ == "__main__":
    main()
