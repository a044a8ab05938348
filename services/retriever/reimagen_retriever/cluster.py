"""Spreading work over a Ray cluster: this machine's cores, or any cluster by its address.

The work is plain Ray tasks and not a Ray Data pipeline. A task reads a shard and writes a shard itself, and hands back
no more than what became of it: no data flows from task to task, which is what Ray Data is for, and a worker that dies
is made up for several times sooner.
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
"""The address of a cluster that is started on this machine, and ends with the work."""
JAVAS_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_SIGACTION_BYTES = 256  # More than the C library's structure has.
_ANSWER_SECONDS = 10.0
_RETRIES = 10
"""Machines that are lent come and go; what ends each process that touches it must end the work."""
_WAITING_FOR_EACH_CORE = 4
"""Results are taken in their order: so much of what comes later may be done while one takes long."""

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connects to a cluster, for `spread`.

    Args:
        address: of its head, `host:port`, or `local`.

    Raises:
        InvalidArgument: Ray is not installed, or that is no address.
        Unavailable: the cluster does not answer.
    """
    # Ray would report to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL and "RAY_AUTH_MODE" not in os.environ:
        # It listens to the network, too. Left to itself, Ray keeps a token in the user's home folder.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    try:
        import ray
    except ImportError as error:
        raise InvalidArgument(
            "Ray is not installed here: pip install 'reimagen-retriever[ray]'", field="ray"
        ) from error
    if address != LOCAL:
        _refuse_silent(address)
    try:
        with keeping_javas_signals():
            ray.init(
                address,
                include_dashboard=False if address == LOCAL else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError) as error:
        raise Unavailable(f"the Ray cluster at {address} does not let us in: {error}", field="ray") from error
    try:
        yield
    finally:
        with keeping_javas_signals():
            ray.shutdown()


@contextmanager
def keeping_javas_signals() -> Iterator[None]:
    """Ray's start and its end take signals away from Java, which lives on them: it would crash some time later."""
    sigaction = ctypes.CDLL(None).sigaction
    kept = {number: ctypes.create_string_buffer(_SIGACTION_BYTES) for number in JAVAS_SIGNALS}
    for number, action in kept.items():
        sigaction(number, None, action)
    try:
        yield
    finally:
        for number, action in kept.items():
            sigaction(number, action, None)


def _refuse_silent(address: str) -> None:
    """Ray itself would try for minutes."""
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
    """Does the work for each of the items, on a core each, and hands out the results in the order of the items.

    What ran in a process or on a machine that died is done again, so doing it twice must do no harm.

    Args:
        work: a function at the top level of a module.
        shared: what it needs for all items; it is sent once to each machine.
        items: what it is done for.

    Raises:
        ReimagenError: as the work has raised it; or its processes die again and again.
        OSError: as the work has raised it.
    """
    import ray

    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(work)
    sent = ray.put(shared)
    waiting: deque[tuple[Item, Any]] = deque()
    try:
        for item in items:
            waiting.append((item, task.remote(sent, item)))
            # A cluster may grow meanwhile.
            if len(waiting) > _WAITING_FOR_EACH_CORE * ray.cluster_resources().get("CPU", 1):
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
        raise ReimagenError(f"{item}: its process ended {_RETRIES + 1} times: {error}") from error
