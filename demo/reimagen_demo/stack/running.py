"""The whole system as child processes of the demonstration: Redis, the retriever and the generator."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import httpx
from rich.console import Console

from reimagen_common.local_redis import LocalRedis
from reimagen_demo.art.entities import Entity, entities
from reimagen_demo.stack import knowledge_base
from reimagen_demo.stack.processes import Child, ChildError, free_address, ready_http, serving_grpc

RETRIEVER_SECONDS = 120.0
GENERATOR_SECONDS = 420.0
"""Time limits until the services are ready; the generator's first start compiles the cascade."""

console = Console(highlight=False)


class RetrieverProcess(Child):
    """A started retriever; `wait` returns when it answers."""

    def __init__(self, base: Path, redis_url: str, logs: Path) -> None:
        """Serve that knowledge base, on the usual port if it is free."""
        self.address = free_address(50051)
        command = ["reimagen-retriever", "serve", str(base), "--grpc", self.address, "--redis-url", redis_url]
        super().__init__(command, logs / "retriever.log")

    def wait(self) -> None:
        """Wait until the retriever answers.

        Raises:
            ChildError: it has ended, or takes too long.
        """
        self.wait_until(lambda: serving_grpc(self.address), RETRIEVER_SECONDS)


class GeneratorProcess(Child):
    """A started generator; `wait` returns when its cascade is compiled."""

    def __init__(self, retriever: str, compiled: Path, logs: Path, jobs: Path | None = None) -> None:
        """Serve on the usual ports if they are free.

        Args:
            retriever: host:port of the retriever.
            compiled: folder of compiled code, which the next start reuses.
            logs: folder of logs.
            jobs: folder of jobs; None accepts no jobs.
        """
        self.grpc, rest = free_address(50052), free_address(8000)
        self.url = f"http://{rest}"
        command = ["reimagen-generator", "serve", "--retriever", retriever, "--grpc", self.grpc, "--http", rest]
        environment = {"REIMAGEN_GENERATOR_COMPILE_CACHE": str(compiled)}
        if jobs is not None:
            environment["REIMAGEN_GENERATOR_JOBS"] = str(jobs)
        super().__init__(command, logs / "generator.log", environment)

    def wait(self) -> None:
        """Wait until the generator can draw.

        Raises:
            ChildError: it has ended, or takes too long.
        """
        self.wait_until(lambda: ready_http(self.url), GENERATOR_SECONDS)


@dataclass(frozen=True)
class System:
    """The running services, ready."""

    retriever: RetrieverProcess
    generator: GeneratorProcess

    def check(self) -> None:
        """Raise an error if a service has ended.

        Raises:
            ChildError: a service has ended.
        """
        self.retriever.check()
        self.generator.check()


@contextmanager
def running(folder: Path, known: Sequence[Entity] = entities()) -> Iterator[System]:
    """Build what is missing, start all services, print how long each took, and stop them even after an error.

    Args:
        folder: folder of the build, which the next run reuses, and of logs.
        known: entities in the knowledge base.

    Raises:
        ChildError: a service failed.
        RuntimeError: another step failed; the message names it.
    """
    with _timed("the knowledge base"):
        base = knowledge_base.build(folder, known)
    with serving(folder, base) as system:
        yield system


@contextmanager
def serving(folder: Path, base: Path) -> Iterator[System]:
    """Start all services over a knowledge base, print how long each took, and stop them even after an error.

    Args:
        folder: folder of the build, for compiled code and logs.
        base: the knowledge base.

    Raises:
        ChildError: a service failed.
    """
    logs = folder / "logs"
    with ExitStack() as started:
        with _timed("Redis"):
            redis = started.enter_context(LocalRedis())
        retriever = started.enter_context(RetrieverProcess(base, redis.url, logs))
        # The compiled code is stored with the rest of the build, so that nothing remains outside of the checkout.
        # Jobs end with the demonstration, so that a second one can run beside it.
        jobs = Path(started.enter_context(TemporaryDirectory(prefix="reimagen-jobs-")))
        generator = started.enter_context(GeneratorProcess(retriever.address, folder / "compiled", logs, jobs))
        with _timed("the retriever"):
            retriever.wait()
        with _timed("the generator"), console.status("compiling the cascade (the first time takes minutes)"):
            generator.wait()
        yield System(retriever, generator)


@contextmanager
def report_errors() -> Iterator[None]:
    """Wrap a program's whole run: signals end it cleanly, and errors are printed without a traceback."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopped")
    except (ChildError, RuntimeError, httpx.HTTPError) as error:
        console.print(f"The demonstration failed: {error}", style="red", markup=False)
        console.print("Logs are in build/demo/logs. The next run reuses what is built; `make clean` starts over.")
        sys.exit(1)


def interrupt(_number: int, _frame: object) -> NoReturn:
    """Handle a signal as Ctrl-C is handled, so that all services are stopped."""
    raise KeyboardInterrupt


@contextmanager
def _timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    console.print(f"{what}: ready in {time.monotonic() - start:.1f} s")
