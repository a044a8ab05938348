"""The owner of jobs and uploads."""

from reimagen_common.access.caller import current_caller


def current_owner() -> str:
    """Return the id of the caller of the current request; empty where no keys are required."""
    return current_caller().id
