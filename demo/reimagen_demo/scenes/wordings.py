"""The wordings of scenes in prompts; `wordings.toml` is the list, for review."""

import tomllib
from importlib.resources import files

_LISTS = tomllib.loads(files(__package__).joinpath("wordings.toml").read_text(encoding="utf-8"))

WORDINGS: dict[str, tuple[str, ...]] = {phrase: tuple(lists["trained"]) for phrase, lists in _LISTS.items()}
"""Wordings of training besides a scene's main wording, by main wording."""
UNSEEN: dict[str, tuple[str, ...]] = {phrase: tuple(lists["unseen"]) for phrase, lists in _LISTS.items()}
"""Wordings that training never uses, by main wording."""
