"""The progress bar of long work over the pairs of a base."""

from typing import NoReturn

from tqdm import tqdm


def progress_bar(work: str, pairs: int) -> "tqdm[NoReturn]":
    """A bar on standard error, where that is a terminal."""
    return tqdm(total=pairs, desc=work, unit=" pairs", dynamic_ncols=True, disable=None, mininterval=0.5)
