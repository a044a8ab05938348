"""How prompts name the scenes: `wordings.toml` is the reviewable list."""

import tomllib
from importlib.resources import files

_LISTS = tomllib.loads(files(__package__).joinpath("wordings.toml").read_text(encoding="utf-8"))

WORDINGS: dict[str, tuple[str, ...]] = {phrase: tuple(lists["trained"]) for phrase, lists in _LISTS.items()}
"""Those of training beside a scene's main one, by that."""
UNSEEN: dict[str, tuple[str, ...]] = {phrase: tuple(lists["unseen"]) for phrase, lists in _LISTS.items()}
"""Those that training never uses, by a scene's main one."""
