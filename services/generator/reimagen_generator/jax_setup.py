"""Setup of JAX: the cache of compiled code, and a filter of irrelevant log messages."""

import logging
from pathlib import Path

import jax

from reimagen_generator.settings import user_cache


def keep_compiled(folder: Path | None = None) -> None:
    """Cache compiled code in a folder, so that nothing is compiled twice; the default is the service's folder.

    The folder can be moved or copied: its content does not depend on its path.
    """
    jax.config.update("jax_compilation_cache_dir", str(folder or user_cache("compiled")))  # type: ignore[no-untyped-call]
    # By default only functions that took a second to compile are cached, but a stage has many small functions.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # type: ignore[no-untyped-call]
    # XLA's own caches would be in the same folder, and its path would then be part of every key.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # type: ignore[no-untyped-call]


def leave_out_missing_tpus() -> None:
    """Suppress the warning about a missing TPU library."""
    logging.getLogger("jax._src.xla_bridge").addFilter(_is_relevant)


def _is_relevant(record: logging.LogRecord) -> bool:
    return "Failed to open libtpu.so" not in record.getMessage()
