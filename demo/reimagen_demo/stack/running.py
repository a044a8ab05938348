"""The whole system as child processes of the demonstration: Redis, the retriever and the generator."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import httpx
from rich.console import Console

from reimagen_common.local_redis import LocalRedis
from reimagen_demo.art.entities import Entity, entities
from reimagen_demo.stack import knowledge_base
from reimagen_demo.stack.processes import Child, ChildError, free_address, ready_http, serving_grpc

RETRIEVER_SECONDS = 120.0
GENERATOR_SECONDS = 420.0
"""How long it may take to be ready: the first start compiles the cascade."""

console = Console(highlight=False)


class RetrieverProcess(Child):
    """A retriever that has been started; `wait` until it answers."""

    def __init__(self, base: Path, redis_url: str, logs: Path) -> None:
        """Serve that knowledge base, on the usual port where it is free."""
        self.address = free_address(50051)
        command = ["reimagen-retriever", "serve", str(base), "--grpc", self.address, "--redis-url", redis_url]
        super().__init__(command, logs / "retriever.log")

    def wait(self) -> None:
        """Returns once it answers.

        Raises:
            ChildError: it has ended, or takes too long.
        """
        self.wait_until(lambda: serving_grpc(self.address), RETRIEVER_SECONDS)


class GeneratorProcess(Child):
    """A generator that has been started; `wait` until its cascade is compiled."""

    def __init__(self, retriever: str, compiled: Path, logs: Path) -> None:
        """Serve on the usual ports where they are free.

        Args:
            retriever: Its host:port.
            compiled: Folder of compiled code, kept for the next start.
            logs: Folder of logs.
        """
        self.grpc, rest = free_address(50052), free_address(8000)
        self.url = f"http://{rest}"
        command = ["reimagen-generator", "serve", "--retriever", retriever, "--grpc", self.grpc, "--http", rest]
        super().__init__(command, logs / "generator.log", {"REIMAGEN_GENERATOR_COMPILE_CACHE": str(compiled)})

    def wait(self) -> None:
        """Returns once it draws.

        Raises:
            ChildError: it has ended, or takes too long.
        """
        self.wait_until(lambda: ready_http(self.url), GENERATOR_SECONDS)


@dataclass(frozen=True)
class System:
    """Everything, ready."""

    retriever: RetrieverProcess
    generator: GeneratorProcess

    def check(self) -> None:
        """Returns while both run.

        Raises:
            ChildError: one has ended.
        """
        self.retriever.check()
        self.generator.check()


@contextmanager
def running(folder: Path, wanted: Sequence[Entity] = entities()) -> Iterator[System]:
    """Builds what is missing, starts everything, tells how long each took; stops what it started, whatever happens.

    Args:
        folder: Of what is built, kept for the next time, and of logs.
        wanted: The entities in the knowledge base.

    Raises:
        ChildError: a service failed.
        RuntimeError: something else failed; the message says what.
    """
    logs = folder / "logs"
    with _timed("the knowledge base"):
        base = knowledge_base.build(folder, wanted)
    with ExitStack() as started:
        with _timed("Redis"):
            redis = started.enter_context(LocalRedis())
        retriever = started.enter_context(RetrieverProcess(base, redis.url, logs))
        # The compiled code is kept beside what else is built here, so that nothing is left outside of the checkout.
        generator = started.enter_context(GeneratorProcess(retriever.address, folder / "compiled", logs))
        with _timed("the retriever"):
            retriever.wait()
        with _timed("the generator"), console.status("compiling the cascade (the first time takes minutes)"):
            generator.wait()
        yield System(retriever, generator)


@contextmanager
def report_errors() -> Iterator[None]:
    """For a program's whole run: signals end it in good order, and what fails is told without a trace."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopped")
    except (ChildError, RuntimeError, httpx.HTTPError) as error:
        console.print(f"The demonstration failed: {error}", style="red", markup=False)
        console.print("Logs are in build/demo/logs. `make clean` starts over; what the next run finds built it keeps.")
        sys.exit(1)


def interrupt(_number: int, _frame: object) -> NoReturn:
    """A signal's handler that ends the demonstration as Ctrl-C does: with everything stopped."""
    raise KeyboardInterrupt


@contextmanager
def _timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    console.print(f"{what}: ready in {time.monotonic() - start:.1f} s")
