"""The project of Docker Compose that is checked: its files, its containers and how to kill them."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trustme

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = ("docker-compose.yml", "deploy/docker/access.yml")
PROJECT: Final = "reimagen-check"
SERVICES: Final = ("redis", "retriever", "generator")
USER: Final = 10001
"""The user in the containers."""
READY_SECONDS: Final = 900
"""The first start of a generator compiles its cascade."""
_RIGHTS: Final[Mapping[str, Sequence[str]]] = {
    "retriever": ["read"],
    "reader": ["read"],
    "client": ["read", "generate"],
}


@dataclass(frozen=True)
class Access:
    """The keys and the certificates of a project."""

    folder: Path
    keys: Mapping[str, str]
    """A key of each name of `_RIGHTS`."""

    def trust(self) -> ssl.SSLContext:
        """Return a context that trusts the project's authority only."""
        return ssl.create_default_context(cafile=self.folder / "ca.crt")


def make_access(folder: Path) -> Access:
    """Write keys and certificates that the user of the containers can read.

    Raises:
        subprocess.CalledProcessError: A key could not be made.
    """
    ca = trustme.CA()
    issued = ca.issue_cert("localhost", "127.0.0.1", "retriever", "generator")
    ca.cert_pem.write_to_path(str(folder / "ca.crt"))
    (folder / "tls.crt").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(folder / "tls.key"))
    program = Path(sys.executable).with_name("reimagen-generator")
    add = [str(program), "keys", "add", "--file", str(folder / "keys.json")]
    keys = {name: _output([*add, name, *(f"--right={right}" for right in rights)]) for name, rights in _RIGHTS.items()}
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, USER)
    return Access(folder, keys)


class Project:
    """The containers of one project."""

    def __init__(self, access: Access) -> None:
        """Take the keys and certificates; nothing is started."""
        both = subprocess.run(["docker", "compose", "version"], check=False, capture_output=True)
        program = ["docker", "compose"] if both.returncode == 0 else ["docker-compose"]
        files = [argument for file in FILES for argument in ("-f", str(ROOT / file))]
        self._compose = [*program, "-p", PROJECT, "--project-directory", str(ROOT), *files]
        self._environment = os.environ | {
            "REIMAGEN_ACCESS": str(access.folder),
            "REIMAGEN_RETRIEVER_API_KEY": access.keys["retriever"],
        }

    def run(self, *arguments: str) -> None:
        """Run a command of Compose; its output goes to standard error.

        Raises:
            subprocess.CalledProcessError: It failed.
        """
        subprocess.run([*self._compose, *arguments], check=True, env=self._environment, stdout=sys.stderr)

    def state(self, service: str) -> Mapping[str, Any]:
        """Return what Docker reports of a service's container."""
        label = "label=com.docker.compose."
        filters = ["--filter", f"{label}project={PROJECT}", "--filter", f"{label}service={service}"]
        listed = _output(["docker", "ps", "--all", "--quiet", *filters]).split()
        if len(listed) != 1:
            raise RuntimeError(f"{service}: must have one container, has {len(listed)}")
        (found,) = json.loads(_output(["docker", "inspect", listed[0]]))
        return dict(found)

    def healthy(self, service: str) -> bool:
        """Whether a service's container passes its health check."""
        state = self.state(service)["State"]
        return bool(state["Running"]) and state["Health"]["Status"] == "healthy"

    def wait_healthy(self, services: Sequence[str] = SERVICES) -> None:
        """Wait until services are healthy.

        Raises:
            TimeoutError: One of them is not, after `READY_SECONDS`.
        """
        wait_until(lambda: all(map(self.healthy, services)), f"{', '.join(services)} healthy")

    def kill(self, service: str) -> int:
        """End a service's process as the kernel does without memory, and return the number of its restarts before.

        `docker kill` would count as a stop by the operator, after which Docker starts nothing.
        """
        found = self.state(service)
        os.kill(found["State"]["Pid"], signal.SIGKILL)
        return int(found["RestartCount"])

    def wait_restarted(self, service: str, before: int) -> None:
        """Wait until Docker has restarted a killed service and it is healthy.

        Raises:
            TimeoutError: It is not, after `READY_SECONDS`.
        """
        wait_until(lambda: self.state(service)["RestartCount"] > before, f"{service} restarted")
        self.wait_healthy([service])


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: It is false after `READY_SECONDS`.
    """
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {READY_SECONDS} s")
        time.sleep(0.5)
