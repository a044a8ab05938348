"""Clear JAX's caches: a cached program has no dump of its memory layout."""

from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture(autouse=True, scope="package")
def _compiled_anew() -> Iterator[None]:
    jax.config.update("jax_enable_compilation_cache", False)  # type: ignore[no-untyped-call]
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)  # type: ignore[no-untyped-call]
    compilation_cache.reset_cache()
