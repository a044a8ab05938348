"""Spread work over a Ray cluster: the cores of this machine, or any cluster by its address.

The work runs as plain Ray tasks, not as a Ray Data pipeline. A task reads a shard, writes a shard and returns only a
summary. No data flows between tasks, which is what Ray Data is for, and plain tasks recover from a dead worker several
times faster.
"""

import ctypes
import logging
import os
import secrets
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from reimagen_common.addresses import split_address
from reimagen_common.errors import InvalidArgument, ReimagenError, Unavailable

LOCAL = "local"
"""The address that starts a cluster on this machine for the duration of the work."""
JAVA_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_SIGACTION_BYTES = 256  # larger than the C library's structure
_ANSWER_SECONDS = 10.0
_RETRIES = 10
"""Retries of a task. Spot machines disappear, but an item that kills every process must end the work."""
_QUEUED_PER_CORE = 4
"""Queued tasks per core. Results are returned in order, so later tasks run ahead while an earlier one is slow."""

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster, for `spread`.

    Args:
        address: `host:port` of the cluster's head, or `local`.

    Raises:
        InvalidArgument: Ray is not installed, or the address is invalid.
        Unavailable: The cluster does not answer.
    """
    # Turn off Ray's usage reports.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL and "RAY_AUTH_MODE" not in os.environ:
        # Even a local cluster listens on the network. By default, Ray stores its token in the user's home folder.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    try:
        import ray
    except ImportError as error:
        raise InvalidArgument("Ray is not installed: pip install 'reimagen-retriever[ray]'", field="ray") from error
    if address != LOCAL:
        _require_answer(address)
    try:
        with preserved_java_signals():
            ray.init(
                address,
                include_dashboard=False if address == LOCAL else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError) as error:
        raise Unavailable(f"the Ray cluster at {address} refused the connection: {error}", field="ray") from error
    try:
        yield
    finally:
        with preserved_java_signals():
            ray.shutdown()


@contextmanager
def preserved_java_signals() -> Iterator[None]:
    """Restore Java's signal handlers afterwards.

    Ray replaces them when it starts and stops. Java needs them and would crash some time later.
    """
    sigaction = ctypes.CDLL(None).sigaction
    saved = {number: ctypes.create_string_buffer(_SIGACTION_BYTES) for number in JAVA_SIGNALS}
    for number, action in saved.items():
        sigaction(number, None, action)
    try:
        yield
    finally:
        for number, action in saved.items():
            sigaction(number, action, None)


def _require_answer(address: str) -> None:
    """Raise unless a cluster listens at the address. Ray itself would retry for minutes."""
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise InvalidArgument(f"{error}, or be {LOCAL}", field="ray") from error
    try:
        socket.create_connection((host, port), _ANSWER_SECONDS).close()
    except OSError as error:
        raise Unavailable(f"no Ray cluster answers at {address}: {error}", field="ray") from error


def spread(
    work: Callable[[Shared, Item], Result], shared: Shared, items: Sequence[Item]
) -> Iterator[tuple[Item, Result]]:
    """Run the work for each item, one core per item, and yield the results in the order of the items.

    The work of a process or machine that died is repeated, so the work must be idempotent.

    Args:
        work: A function at the top level of a module.
        shared: The argument that all items share. It is sent once to each machine.
        items: The items.

    Raises:
        ReimagenError: The work raised it, or its processes died repeatedly.
        OSError: The work raised it.
    """
    import ray

    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(work)
    sent = ray.put(shared)
    waiting: deque[tuple[Item, Any]] = deque()
    try:
        for item in items:
            waiting.append((item, task.remote(sent, item)))
            # The cluster may grow during the work.
            if len(waiting) > _QUEUED_PER_CORE * ray.cluster_resources().get("CPU", 1):
                yield _next(waiting)
        while waiting:
            yield _next(waiting)
    finally:
        for _, reference in waiting:
            ray.cancel(reference)


def _next(waiting: deque[tuple[Item, Any]]) -> tuple[Item, Any]:
    import ray

    item, reference = waiting.popleft()
    try:
        return item, ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise ReimagenError(f"{item}: its process died {_RETRIES + 1} times: {error}") from error
