"""Path parameters of the HTTP services."""

from typing import Final

from starlette.convertors import Convertor, register_url_convertor


class _AnyConvertor(Convertor[str]):
    """A path parameter that may hold any character: Starlette's `path` takes `a%0A` for `a`."""

    regex = r"(?s:.*)"

    def convert(self, value: str) -> str:
        """Return the parameter as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return the parameter as it is."""
        return value


register_url_convertor("any", _AnyConvertor())

ID_PATH: Final = "{id:any}"
"""The part of a route's path that is a pair's id."""
