"""What a measurement says of the machine it was taken on, and of the memory of processes."""

import os
import platform
import re
import subprocess
from pathlib import Path


def machine() -> str:
    """The processor, its cores and the load on them."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def peak_megabytes(process: subprocess.Popen[bytes] | None = None) -> float:
    """The most memory that the process, or this one, has had at once, in MiB."""
    status = Path(f"/proc/{process.pid if process else 'self'}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) / 1024 if peak else float("nan")
