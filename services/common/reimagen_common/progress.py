"""The progress bar of long operations."""

from typing import NoReturn

from tqdm import tqdm


def progress_bar(total: int | None, work: str, unit: str, *, done: int = 0) -> "tqdm[NoReturn]":
    """Return a progress bar on standard error, which is shown only on a terminal.

    Args:
        total: Number of units, or None if unknown.
        work: Name of the work.
        unit: Name of the units, in the plural.
        done: Number of units that an earlier run finished.
    """
    return tqdm(
        total=total, initial=done, desc=work, unit=f" {unit}", dynamic_ncols=True, disable=None, mininterval=0.5
    )
