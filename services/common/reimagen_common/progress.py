"""The progress bar of long work."""

from typing import NoReturn

from tqdm import tqdm


def progress_bar(total: int | None, work: str, unit: str, *, done: int = 0) -> "tqdm[NoReturn]":
    """Return a bar on standard error, which shows only where that is a terminal.

    Args:
        total: How many units there are; None where that is not known.
        work: What is being done.
        unit: Of what, in the plural.
        done: How many units an earlier run finished.
    """
    return tqdm(
        total=total, initial=done, desc=work, unit=f" {unit}", dynamic_ncols=True, disable=None, mininterval=0.5
    )
