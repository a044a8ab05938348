"""Install the programs in Node that the tools use, locked by `tools/package-lock.json`, from npm's registry."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_TOOLS: Final = Path(__file__).resolve().parent
_FOLDER: Final = _TOOLS.parent / "build" / "npm"
_FILES: Final = ("package.json", "package-lock.json", ".npmrc")


def environment() -> dict[str, str]:
    """Return the environment of npm and node."""
    # Both are in the folder of this Python, which is not on the PATH of an environment that is not activated.
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def program(name: str) -> list[str]:
    """Install the locked programs into `build/npm`, unless they are there, and return the command of one of them.

    Raises:
        subprocess.CalledProcessError: npm failed.
    """
    done = _FOLDER / "installed-lock.json"
    lock = (_TOOLS / "package-lock.json").read_bytes()
    if not done.exists() or done.read_bytes() != lock:
        _FOLDER.mkdir(parents=True, exist_ok=True)
        for file in _FILES:
            shutil.copy(_TOOLS / file, _FOLDER / file)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=_FOLDER, env=environment(), check=True, stdout=subprocess.DEVNULL)
        done.write_bytes(lock)
    return ["node", str((_FOLDER / "node_modules" / ".bin" / name).resolve())]
