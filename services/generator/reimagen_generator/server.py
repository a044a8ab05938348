"""The server: one process with the gRPC and REST APIs of one backend."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from reimagen.v1 import generation_pb2_grpc
from reimagen_common.addresses import hosts_of
from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_common.grpc_server import GrpcServer
from reimagen_common.http_server import HttpServer, listen
from reimagen_common.logs import configure_logging
from reimagen_common.processes import run_until_signal
from reimagen_common.tracing import start_tracing, stop_tracing
from reimagen_generator.api.grpc import MESSAGE_BYTES, SERVICE_NAME, WATCHERS, GenerationServicer
from reimagen_generator.api.http.app import create_app
from reimagen_generator.api.rights import CALLS
from reimagen_generator.backends.image_server import ImageServerBackend
from reimagen_generator.backends.openai_images import Upstream
from reimagen_generator.generation.backend import Backend
from reimagen_generator.generation.certificates import load_identity, local_identity
from reimagen_generator.generation.image_log import ImageLog
from reimagen_generator.generation.policy import Policy
from reimagen_generator.generation.retriever_client import RetrieverClient
from reimagen_generator.generation.service import GenerationService
from reimagen_generator.generation.signing import Signer
from reimagen_generator.generation.uploads import UploadStore
from reimagen_generator.generation.verification import Verifier
from reimagen_generator.jobs.redis import RedisJobStore
from reimagen_generator.jobs.service import JobService
from reimagen_generator.jobs.sqlite import SqliteJobStore
from reimagen_generator.jobs.store import JobStore
from reimagen_generator.moderation.blocklist import Blocklist
from reimagen_generator.moderation.hook import Hook
from reimagen_generator.settings import Hosts, Settings

if TYPE_CHECKING:
    from reimagen_generator.backends.cascade import CascadeBackend
    from reimagen_generator.parallel.group import Leader

# Threads in addition to those that wait for the backend: they validate, reject and describe.
_SPARE_THREADS: Final = 4
# Time for sending the rest of answers whose images are finished.
_CLOSING_SECONDS: Final = 5

_logger = logging.getLogger(__name__)


class GeneratorServer:
    """The gRPC and REST servers of one backend.

    Port 0 in the settings selects a free port. `grpc_port` and `http_port` are the actual ports.
    """

    def __init__(self, backend: Backend, settings: Settings) -> None:
        """Listen on both addresses.

        Raises:
            InvalidArgument: The server cannot listen on an address, or a file of keys, TLS, the signature or the
                blocklist, the store of jobs, the log of images or the moderation hook cannot be used.
        """
        self._stop_seconds = settings.stop_seconds
        guard, tls = settings.open_guard(settings.redis_url), settings.open_tls()
        self._retriever = RetrieverClient(settings.retriever, settings.retriever_credentials())
        self._backend = backend
        signer, self._image_log = _open_signer(settings), _open_image_log(settings)
        generator = GenerationService(
            backend,
            self._retriever,
            guard,
            signer,
            _open_policy(settings),
            watermark=settings.watermark,
            log=self._image_log,
        )
        self._jobs = _open_jobs(generator, settings)
        with _listening("http", settings.http):
            listening = listen(settings.http)
        with _listening("grpc", settings.grpc):
            self._grpc = GrpcServer(
                address=settings.grpc,
                workers=backend.slots + _SPARE_THREADS + WATCHERS,
                max_message_bytes=MESSAGE_BYTES,
                guard=guard,
                rights=CALLS,
                tls=tls,
            )
        servicer = GenerationServicer(generator, self._jobs, deadline=settings.deadline_seconds)
        self._grpc.add(
            lambda server: generation_pb2_grpc.add_GenerationServicer_to_server(servicer, server), SERVICE_NAME
        )
        self.grpc_port = self._grpc.port
        self.http_port: int = listening.getsockname()[1]
        app = create_app(
            generator,
            guard,
            UploadStore(seconds=settings.upload_seconds, maximum_bytes=settings.upload_megabytes * 1024 * 1024),
            self._jobs,
            Verifier(settings.trust_anchors, self._image_log),
            deadline=settings.deadline_seconds,
            body_seconds=settings.body_seconds,
            base_url=settings.base_url,
            cors_origins=settings.cors_origins,
        )
        allowed = hosts_of(settings.http, settings.base_url, settings.allowed_hosts)
        self._http = HttpServer(app, listening, allowed_hosts=allowed, tls=tls)

    def start(self) -> None:
        """Start both servers, which answer that the service is starting, and return when the backend is ready."""
        self._grpc.start()
        self._http.start()
        ports = {"http_port": self.http_port, "grpc_port": self.grpc_port}
        _logger.info("listening", extra=ports)
        self._backend.start()
        if self._jobs is not None:
            self._jobs.start()
        self._grpc.set_serving(True)
        _logger.info("ready", extra={"cascade": self._backend.model.name, **ports})

    def stop(self) -> None:
        """Reject new requests, wait up to `stop_seconds` for the running ones, then close the servers."""
        self._grpc.set_serving(False)
        if self._jobs is not None:
            self._jobs.stop_taking()
        self._backend.stop(self._stop_seconds)
        self._grpc.stop(_CLOSING_SECONDS)
        self._http.stop()
        if self._jobs is not None:
            self._jobs.close()
        self._retriever.close()
        if self._image_log is not None:
            self._image_log.close()

    def abort(self, error: Unavailable, end_requests: Callable[[Unavailable], None]) -> None:
        """End all requests with an error, and the process with status 1: its accelerator may never answer again."""
        _logger.error("a host is lost", extra={"reason": error.message})
        last = threading.Timer(2 * _CLOSING_SECONDS, os._exit, [1])
        last.start()
        self._grpc.set_serving(False)
        if self._jobs is not None:
            self._jobs.stop_taking()
        end_requests(error)
        self._grpc.stop(_CLOSING_SECONDS)
        self._http.stop()
        os._exit(1)


def _open_image_server(settings: Settings, url: str) -> Backend:
    # It logs each request, and the service does so already.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        upstream = Upstream(
            url,
            settings.images_model,
            settings.images_api_key,
            settings.capacity,
            settings.images_reference_template,
            settings.images_response_format,
        )
    except InvalidArgument as error:
        raise InvalidArgument(f"images_{error.message}") from error
    return ImageServerBackend(
        upstream,
        name=settings.images_model or "image-server",
        sizes=settings.images_sizes,
        maximum_k=settings.images_maximum_k,
    )


def _open_cascade(settings: Settings, hosts: Hosts) -> tuple["CascadeBackend", "Leader | None"]:
    """Return the backend of a cascade, and the leader of the group if there are several hosts."""
    from reimagen_generator.backends.cascade import CascadeBackend
    from reimagen_generator.engine.device import Device
    from reimagen_generator.engine.engine import Engine
    from reimagen_generator.engine.replication import LeadingDevice
    from reimagen_generator.loading import identity, load_cascade
    from reimagen_generator.parallel.group import Leader

    cascade = load_cascade(settings)
    leader = Leader(hosts.coordinator, identity(cascade.config)) if hosts.coordinator else None
    device = LeadingDevice(cascade, leader) if leader else Device(cascade)
    engine = Engine(cascade, capacity=settings.capacity, largest_batch=settings.largest_batch, device=device)
    return CascadeBackend(engine), leader


def _open_signer(settings: Settings) -> Signer | None:
    if not settings.signing:
        return None
    if settings.signing_certificate is None or settings.signing_key is None:
        identity = local_identity(settings.state)
    else:
        identity = load_identity(settings.signing_certificate, settings.signing_key)
    return Signer(identity, settings.timestamp_authority)


def _open_policy(settings: Settings) -> Policy:
    key = settings.moderation_api_key
    return Policy(
        Blocklist.read(settings.blocklist) if settings.blocklist else None,
        Hook(
            settings.moderation_hook,
            seconds=settings.moderation_seconds,
            api_key=key.get_secret_value() if key else None,
        )
        if settings.moderation_hook
        else None,
        required=settings.moderation_required,
    )


def _open_image_log(settings: Settings) -> ImageLog | None:
    if settings.image_log == 0:
        return None
    return ImageLog(settings.state, maximum=settings.image_log, seconds=settings.image_log_seconds)


def _open_jobs(generator: GenerationService, settings: Settings) -> JobService | None:
    store: JobStore
    if settings.jobs_redis_url is not None:
        store = RedisJobStore(settings.jobs_redis_url, retention_seconds=settings.job_retention_seconds)
    elif settings.jobs is not None:
        store = SqliteJobStore(settings.jobs, retention_seconds=settings.job_retention_seconds)
    else:
        return None
    return JobService(
        generator,
        store,
        capacity=settings.job_capacity,
        runners=settings.job_runners,
        deadline=settings.job_deadline_seconds,
    )


@contextmanager
def _listening(setting: str, address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, OverflowError) as error:
        raise InvalidArgument(f"cannot listen on {address}; is the port in use?", field=setting) from error


def _abort_when_lost(service: GeneratorServer, backend: "CascadeBackend", leader: "Leader") -> None:
    service.abort(leader.wait_for_loss(), backend.fail)


def run(settings: Settings, hosts: Hosts) -> None:
    """Serve until SIGTERM or SIGINT, then finish the running requests.

    Of several hosts, process 0 serves, and the others draw with it. There, any error ends the process at once: JAX
    would wait for the other hosts first.

    Raises:
        InvalidArgument: The server cannot listen on an address, or the weights cannot be loaded, or a setting of the
            image server is invalid.
    """
    configure_logging("generator", settings.log_level)
    start_tracing("reimagen-generator")
    try:
        _run(settings, hosts)
    except Exception as error:
        if hosts.coordinator is None:
            raise
        _logger.exception("this process of a group has failed", exc_info=error)
        os._exit(1)
    stop_tracing()


def _run(settings: Settings, hosts: Hosts) -> None:
    leader = None
    if settings.images_url is not None:
        service = GeneratorServer(_open_image_server(settings, settings.images_url), settings)
    else:
        # JAX takes a second and 140 MB to import; an image server's backend does not need it.
        from reimagen_generator.loading import prepare_devices
        from reimagen_generator.parallel.hosts import is_primary

        prepare_devices(settings, hosts)
        if not is_primary():
            from reimagen_generator.follower import run_follower

            run_follower(settings)
            return
        backend, leader = _open_cascade(settings, hosts)
        service = GeneratorServer(backend, settings)
        if leader is not None:
            args = (service, backend, leader)
            threading.Thread(target=_abort_when_lost, args=args, daemon=True, name="group").start()
    try:
        service.start()
    except BaseException:
        # Otherwise the servers' threads would keep the process alive, although it never becomes ready.
        service.stop()
        raise
    run_until_signal(service.stop)
    if leader is not None:
        leader.dismiss()
