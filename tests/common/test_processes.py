"""Orderly stopping, of a real process by real signals."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

WAIT_S = 20
SERVICE = """
import signal, threading
from reimagen_common.processes import run_until_signal

def announce():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        pass
    print("ready", flush=True)

def stop():
    print("draining", flush=True)
    if STUCK:
        threading.Event().wait()

threading.Thread(target=announce).start()
run_until_signal(stop)
print("ended", flush=True)
"""


@contextmanager
def service(*, stuck: bool) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for its signal, ready for it."""
    code = f"STUCK = {stuck}\n{SERVICE}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert line_of(process) == "ready"
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_an_orderly_way(number: signal.Signals) -> None:
    with service(stuck=False) as process:
        process.send_signal(number)
        assert process.wait(WAIT_S) == 0
        assert [line_of(process), line_of(process)] == ["draining", "ended"]


def test_a_second_signal_ends_a_process_that_is_stuck() -> None:
    with service(stuck=True) as process:
        process.send_signal(signal.SIGTERM)
        assert line_of(process) == "draining"
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 128 + signal.SIGINT
