"""How JAX is set up by whatever draws: where compiled code is kept, and what is not worth a line of log."""

import logging
from pathlib import Path

import jax

from reimagen_generator.settings import user_cache


def keep_compiled(folder: Path | None = None) -> None:
    """Keeps compiled code in a folder, so that nothing is compiled twice; by default where the service keeps it.

    The folder may be moved or copied: what is in it does not depend on where it is.
    """
    jax.config.update("jax_compilation_cache_dir", str(folder or user_cache("compiled")))  # type: ignore[no-untyped-call]
    # By default only what took a second to compile is kept; a stage is many small functions.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # type: ignore[no-untyped-call]
    # XLA's own caches would lie in the same folder, and its path would then be part of every key.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # type: ignore[no-untyped-call]


def leave_out_missing_tpus() -> None:
    """Logs nothing of a TPU that can't be there, as its library is not installed."""
    logging.getLogger("jax._src.xla_bridge").addFilter(_is_worth_a_line)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return "Failed to open libtpu.so" not in record.getMessage()
