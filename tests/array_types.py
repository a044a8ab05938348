"""Check the shapes and types of arrays at run time, as their annotations state them."""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

PACKAGES = ("reimagen_generator",)


def install() -> None:
    """Check the arrays that functions of the packages take and return, from their first import on."""
    install_import_hook(PACKAGES, f"{__name__}.{check_arrays.__name__}")


def check_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function check its arrays, and only those: mypy checks all other annotations.

    Beartype cannot check all of them, such as `Self` in methods and protocols. Constructors are not checked: JAX also
    fills dataclasses with shapes, shardings, and arrays of fewer axes.
    """
    if function.__name__ == "__init__":
        return function
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _has_array(hint)}
    return beartype(function)


def _has_array(hint: object) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_has_array(part) for part in get_args(hint))
