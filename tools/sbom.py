"""Write a software bill of materials of each container image, from its locks: `make sbom`.

The files are in CycloneDX's JSON, one for each service and kind of accelerator, and the same for the same locks. They
list the Python packages of an image with versions and hashes: not those of its Debian base, nor what the build argument
STORE adds.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "build" / "sbom"
IMAGES: Final = {
    "retriever": ("retriever", ("requirements.lock",)),
    "generator": ("generator", ("requirements.lock",)),
    "generator-tpu": ("generator", ("requirements.lock", "requirements-tpu.lock")),
    "generator-cuda12": ("generator", ("requirements.lock", "requirements-cuda12.lock")),
}
"""The service of each image, and its locks."""


def main() -> None:
    """Write all files, and print a line for each."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for image, (service, locks) in IMAGES.items():
        folder = ROOT / "services" / service
        found = installed([folder / lock for lock in locks], image_python(service))
        target = FOLDER / f"{image}.cdx.json"
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
            requirements.write("\n".join(found.values()))
            requirements.flush()
            command = ["cyclonedx_py", "requirements", "--output-reproducible", "--of", "JSON", "-o", str(target)]
            about = ["--pyproject", str(folder / "pyproject.toml"), "--mc-type", "application"]
            # The warning is that a lock has no graph of dependencies.
            python = [sys.executable, "-W", "ignore::UserWarning:cyclonedx.model.bom", "-m"]
            subprocess.run([*python, *command, *about, requirements.name], check=True)
        sys.stdout.write(f"{target.relative_to(ROOT)}: {len(found)} packages\n")


def image_python(service: str) -> str:
    """Return the version of Python in a service's image, such as 3.13."""
    dockerfile = (ROOT / f"deploy/docker/{service}.Dockerfile").read_text()
    (version,) = set(re.findall(r"^FROM python:(\d+\.\d+)-", dockerfile, re.MULTILINE))
    return str(version)


def installed(locks: Sequence[Path], python: str) -> dict[str, str]:
    """Return each package that an image installs, by name, with the line of its lock.

    Args:
        locks: The image's locks.
        python: Version of its Python. A lock serves several, with markers.

    Raises:
        ValueError: Two locks name different versions of a package.
    """
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found: dict[str, str] = {}
    for lock in locks:
        for line in _lines(lock):
            text, *hashes = line.split(" --hash=")
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                pinned = " --hash=".join([f"{requirement.name}{requirement.specifier}", *hashes])
                if found.setdefault(requirement.name, pinned) != pinned:
                    raise ValueError(f"{lock}: {requirement.name}: must be the version of the other lock")
    return found


def _lines(lock: Path) -> Iterator[str]:
    """Yield the requirements of a lock, each in one line."""
    text = re.sub(r"\s*#.*$", "", lock.read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            yield line.strip()


if __name__ == "__main__":
    main()
