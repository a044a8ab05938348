"""A process of a group of hosts that draws with process 0 and has no API, only health and metrics."""

import logging
import os
import signal
import threading

from fastapi import FastAPI

from reimagen_common.access.http import add_key_check
from reimagen_common.access.routes import COMMON_ROUTES
from reimagen_common.addresses import hosts_of
from reimagen_common.errors import InvalidArgument
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_server import HttpServer, listen
from reimagen_common.operations import Health, operations_router
from reimagen_generator.engine.replication import follow
from reimagen_generator.loading import identity, load_cascade
from reimagen_generator.parallel.group import Follower, LostHost
from reimagen_generator.settings import Settings

_logger = logging.getLogger(__name__)


def run_follower(settings: Settings) -> None:
    """Execute the orders of process 0 until it stops.

    A stop signal is left to process 0, which ends its requests first. If process 0 is lost, this process
    ends with status 1, even out of a computation that waits for the other hosts.

    Raises:
        InvalidArgument: The weights cannot be loaded, or the server cannot listen on its address.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _logger.info("process 0 decides when to stop"))
    health = Health(status="starting")
    app = FastAPI(title="Re-Imagen, a process without an API", openapi_url=None)
    register_error_handlers(app)
    app.include_router(operations_router(lambda: health))
    add_key_check(app, settings.open_guard(None), COMMON_ROUTES)
    try:
        listening = listen(settings.http)
    except OSError as error:
        raise InvalidArgument(f"cannot listen on {settings.http}; is the port in use?", field="http") from error
    server = HttpServer(
        app,
        listening,
        allowed_hosts=hosts_of(settings.http, settings.base_url, settings.allowed_hosts),
        tls=settings.open_tls(),
    )
    server.start()
    try:
        cascade = load_cascade(settings)
        follower = Follower(identity(cascade.config))
        threading.Thread(target=_end_when_lost, args=[follower], daemon=True, name="group").start()
        health = Health(status="ready")
        _logger.info("following", extra={"http_port": listening.getsockname()[1]})
        follow(cascade, follower)
        _logger.info("stopped")
    except LostHost as error:
        _end(error)
    finally:
        server.stop()


def _end_when_lost(follower: Follower) -> None:
    _end(follower.wait_for_loss())


def _end(error: LostHost) -> None:
    _logger.error("process 0 is lost", extra={"reason": error.message})
    os._exit(1)
