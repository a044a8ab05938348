"""Loading of the cascade that a process draws with, alone or with other hosts."""

import hashlib
from importlib.metadata import version

import jax

from reimagen_common.errors import InvalidArgument
from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.jax_setup import keep_compiled, leave_out_missing_tpus
from reimagen_generator.parallel.hosts import join
from reimagen_generator.settings import Hosts, Settings
from reimagen_generator.start_times import measured
from reimagen_generator.weights.fetch import fetch


def prepare_devices(settings: Settings, hosts: Hosts) -> None:
    """Set JAX up, and connect to the other hosts, if any are configured. This must precede any access to devices."""
    keep_compiled(settings.compile_cache)
    leave_out_missing_tpus()
    join(hosts)


def load_cascade(settings: Settings) -> Cascade:
    """Load the cascade, from a store if the weights are there, onto the devices of all hosts.

    Raises:
        InvalidArgument: The weights cannot be fetched or loaded.
    """
    try:
        folder = settings.weights
        if isinstance(folder, str):
            with measured("fetch"):
                folder = fetch(folder, settings.weights_cache)
        with measured("load"):
            return Cascade.load(folder, settings.text_encoder)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def identity(config: CascadeConfig) -> str:
    """Return what must be the same on all hosts of a group, in one line."""
    digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
    return f"{config.name} {digest[:12]}, reimagen-generator {version('reimagen-generator')}, JAX {jax.__version__}"
