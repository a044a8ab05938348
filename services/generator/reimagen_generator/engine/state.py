"""Whether requests are admitted."""

from enum import Enum


class State(Enum):
    """Whether requests are admitted."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
