"""The plurals of entities' names."""

import re

from reimagen_demo.art.entities import Entity

# BM25's stemmer does not reduce wolves, mice and octopuses to their singular, and deer has the same form for both.
_NO_PLURAL = re.compile(r".*([^s]s|f|ife|ix|man|fish)|mouse|goose|moose|tooth|deer|bison|ox|fly|pie|die|index")
_UNCOUNTED = {"broccoli", "bok choy", "mount fuji", "kaaba", "earth globe", "sun disc", "smiling sun", "yo yo"}
_IN_OES = {"tomato", "potato", "mosquito", "volcano"}


def plural(entity: Entity) -> str | None:
    """Return the plural, "foxes"; None if English has no regular one or BM25 would not match it."""
    name = entity.name
    last = name.split()[-1]
    if name == entity.phrase or name in _UNCOUNTED or re.search(r" (of|with|and|on) ", name):
        return None
    if _NO_PLURAL.fullmatch(last):
        return None
    if re.search(r"[^aeiou]y$", last):
        return f"{name[:-1]}ies"
    if re.search(r"(s|x|z|ch|sh)$", last) or last in _IN_OES:
        return f"{name}es"
    return f"{name}s"
