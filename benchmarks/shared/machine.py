"""The machine that a measurement runs on, and the memory of processes."""

import os
import platform
import re
import subprocess
from pathlib import Path


def machine() -> str:
    """Return the processor, its cores and the load on them."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def peak_megabytes(process: subprocess.Popen[bytes] | None = None) -> float:
    """Return the peak memory of the process, or of this one, in MiB."""
    status = Path(f"/proc/{process.pid if process else 'self'}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) / 1024 if peak else float("nan")
