"""Graceful stopping of a real process by real signals."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reimagen_common.processes import stop_child

WAIT_S = 20
SERVICE = """
import signal, threading
from reimagen_common.processes import run_until_signal

install = signal.signal

def announced(number, handler):
    install(number, handler)
    if signal.SIG_DFL != signal.getsignal(signal.SIGTERM) and signal.getsignal(signal.SIGINT) == handler:
        print("ready", flush=True)  # both signals have handlers

def stop():
    print("draining", flush=True)
    if STUCK:
        threading.Event().wait()

signal.signal = announced
run_until_signal(stop)
print("ended", flush=True)
"""


@contextmanager
def service(*, stuck: bool) -> Iterator[subprocess.Popen[str]]:
    """Start a process that waits for a signal, and return it when its handlers are set."""
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
def test_a_signal_stops_gracefully(number: signal.Signals) -> None:
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


@pytest.mark.parametrize(
    ("on_signal", "seconds", "status"),
    [("lambda *_: sys.exit(3)", WAIT_S, 3), ("signal.SIG_IGN", 0.1, -signal.SIGKILL)],
    ids=["ends by itself", "ignores it"],
)
def test_a_child_is_terminated_and_then_killed(on_signal: str, seconds: float, status: int) -> None:
    code = f"""
import signal, sys, threading
signal.signal(signal.SIGTERM, {on_signal})
print("ready", flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert line_of(process) == "ready"
        stop_child(process, seconds)
        assert process.returncode == status
        stop_child(process, 0)
