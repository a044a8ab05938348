"""Machines on one machine: processes in network namespaces of their own, on one bridge.

All of it is inside a namespace of this process, so that nothing of the machine's network changes and everything is gone
when the process ends.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.waiting import LoggedProcess

HERE: Final = "10.213.0.1"
"""The address of this process on the bridge."""
_BRIDGE: Final = "machines"
_INSIDE: Final = "REIMAGEN_INSIDE_NAMESPACE"


def enter_namespace(module: str, programs: Sequence[str]) -> None:
    """Run this program again in network and mount namespaces of its own, unless it is in them.

    Args:
        module: The module that is run.
        programs: Other programs that it needs.

    Raises:
        RuntimeError: The namespaces cannot be made.
    """
    if os.environ.get(_INSIDE):
        return
    if os.geteuid() != 0:
        raise RuntimeError("network namespaces can be made by root only")
    for program in ("unshare", "ip", *programs):
        if shutil.which(program) is None:
            raise RuntimeError(f"{program} is missing: apt-get install util-linux iproute2 {' '.join(programs)}")
    command = ["unshare", "--net", "--mount", "--", sys.executable, "-m", module, *sys.argv[1:]]
    os.execvpe(command[0], command, os.environ | {_INSIDE: "1"})  # noqa: S606


class Machines:
    """A bridge with the machines that were added to it."""

    def __init__(self) -> None:
        """Make the bridge."""
        Path("/run/netns").mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "namespaces", "/run/netns")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "address", "add", f"{HERE}/24", "dev", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")

    def add(self, name: str, address: str) -> None:
        """Add a machine with an address on the bridge."""
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", "dev", name, "master", _BRIDGE, "up")
        for command in (f"address add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            _run("ip", "-n", name, *command.split())


class Running:
    """Processes that are killed at the end."""

    def __init__(self) -> None:
        self._processes: list[LoggedProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()

    def start(
        self,
        machine: str | None,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        *,
        stdout: bool = False,
    ) -> LoggedProcess:
        """Start a command on a machine, or beside this process; see `LoggedProcess`."""
        inside = [] if machine is None else ["ip", "netns", "exec", machine]
        self._processes.append(LoggedProcess([*inside, *command], environment, stdout=stdout))
        return self._processes[-1]


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
