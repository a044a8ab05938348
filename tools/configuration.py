"""Write docs/reference/configuration.md from the settings of both services: `python -m tools.configuration`.

A test compares the page with the settings.
"""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from reimagen_generator.settings import Hosts
from reimagen_generator.settings import Settings as GeneratorSettings
from reimagen_retriever.settings import ClientSettings
from reimagen_retriever.settings import Settings as RetrieverSettings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "configuration.md"
_HEAD = """# Configuration

For operators: all settings of the services. Each is an environment variable; options of `serve` have precedence. This
page is generated from the code by `python -m tools.configuration`.
"""


def page() -> str:
    """Return the page."""
    parts = [
        _HEAD,
        _table("`reimagen-retriever serve`", RetrieverSettings),
        _table("`reimagen-retriever add` and `remove` with `--address`", ClientSettings),
        _table("`reimagen-generator serve`", GeneratorSettings),
        _table("`reimagen-generator serve` and `train` on several hosts", Hosts),
    ]
    return "\n".join(parts)


def _table(title: str, settings: type[BaseSettings]) -> str:
    rows = [
        f"| `{settings.model_config['env_prefix']}{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in settings.model_fields.items()
    ]
    return "\n".join([f"## {title}\n", "| variable | default | |", "|---|---|---|", *rows, ""])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value in (None, ()):
        return ""
    if isinstance(value, Path) and value.is_absolute():  # the machine's own paths do not belong into the page
        named = {"demo": "the demonstration's cascade", "reimagen": "`~/.local/state/reimagen`"}
        return named.get(value.name, f"`~/.cache/{Path(*value.parts[-2:])}`")
    if isinstance(value, tuple):  # as environment variables have them
        return f"`{','.join(map(str, value))}`"
    return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
