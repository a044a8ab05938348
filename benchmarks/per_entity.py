"""How often a search per entity finds each of the things that a prompt names, beside a plain search.

Asks the demonstration's knowledge base, in this process, for prompts about several random things in a random scene,
"a poodle and a macaw in the snow", and prints a table.

    python -m benchmarks.per_entity [KB_DIR]
"""

import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from benchmarks.shared.machine import machine
from reimagen_demo.art.entities import entities
from reimagen_demo.scenes.registry import SCENES
from reimagen_demo.stack import knowledge_base
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE, BM25Index, Relevance
from reimagen_retriever.index.hits import Hit

PROMPTS = 400

Find = Callable[[str, int, float, Relevance], list[Hit]]


@dataclass(frozen=True)
class Question:
    """A prompt and the texts of the things it names."""

    prompt: str
    things: tuple[str, ...]


def any_things(count: int, rng: random.Random) -> list[tuple[str, ...]]:
    """So many random things for each prompt."""
    names = [entity.phrase for entity in entities()]
    return [tuple(rng.sample(names, count)) for _ in range(PROMPTS)]


def things_that_share_a_word(index: BM25Index, rng: random.Random) -> list[tuple[str, ...]]:
    """Two things for each prompt, such as a bear and a polar bear."""
    terms = {entity.phrase: frozenset(index.terms(entity.phrase)) for entity in entities()}
    couples = [couple for couple in permutations(terms, 2) if terms[couple[0]] & terms[couple[1]]]
    return rng.sample(couples, PROMPTS)


def questions(things: Sequence[tuple[str, ...]], rng: random.Random) -> list[Question]:
    """A prompt about each of the groups of things, in a scene."""
    return [
        Question(f"{', '.join(some[:-1])} and {some[-1]} {rng.choice(rng.choice(SCENES).phrases)}", some)
        for some in things
    ]


def measure(find: Find, asked: Sequence[Question], of_each: int) -> tuple[float, float]:
    """Searches for `of_each` pairs of each thing.

    Returns:
        The share of the prompts whose pairs are exactly those, and the median of the searches' milliseconds.
    """
    right, taken = 0, []
    for question in asked:
        started = time.perf_counter()
        hits = find(question.prompt, of_each * len(question.things), 0.0, DEFAULT_RELEVANCE)
        taken.append((time.perf_counter() - started) * 1e3)
        right += Counter(hit.pair.caption for hit in hits) == dict.fromkeys(question.things, of_each)
    return right / len(asked), statistics.median(taken)


def main(folder: Path) -> None:
    """Measures, and prints the table."""
    index, rng = KnowledgeBase.open(folder).index, random.Random(0)  # noqa: S311
    print(f"Pairs of each thing that a prompt names, {index.pairs:,} pairs, {PROMPTS} prompts a line; {machine()}")
    print(f"{'':36}{'plain search':>24}{'per entity':>24}")
    print(f"{'':36}{'right':>12}{'p50 ms':>12}{'right':>12}{'p50 ms':>12}")
    kinds = {
        "two things": any_things(2, rng),
        "two that share a word": things_that_share_a_word(index, rng),
        "three things": any_things(3, rng),
    }
    for name, things in kinds.items():
        asked = questions(things, rng)
        for of_each in (1, 2):
            line = f"{f'{name}, {of_each} of each':36}"
            finds: tuple[Find, ...] = (index.search, index.search_per_entity)
            for find in finds:
                measure(find, asked, of_each)  # Java compiles as it runs.
                share, median = measure(find, asked, of_each)
                line += f"{share:12.2%}{median:12.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else knowledge_base.build(Path("build/demo")))
