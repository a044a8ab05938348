"""How often a search per entity finds each of the entities that a prompt names, compared with a plain search.

The script searches the demonstration's knowledge base, in this process, for prompts about several random entities in a
random scene, "a poodle and a macaw in the snow", and prints a table.

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
    """A prompt and the captions of the entities that it names."""

    prompt: str
    captions: tuple[str, ...]


def random_entities(count: int, rng: random.Random) -> list[tuple[str, ...]]:
    """Return `count` random entities for each prompt."""
    names = [entity.phrase for entity in entities()]
    return [tuple(rng.sample(names, count)) for _ in range(PROMPTS)]


def entities_that_share_a_word(index: BM25Index, rng: random.Random) -> list[tuple[str, ...]]:
    """Return two entities for each prompt that share a word, such as a bear and a polar bear."""
    terms = {entity.phrase: frozenset(index.terms(entity.phrase)) for entity in entities()}
    couples = [couple for couple in permutations(terms, 2) if terms[couple[0]] & terms[couple[1]]]
    return rng.sample(couples, PROMPTS)


def questions(groups: Sequence[tuple[str, ...]], rng: random.Random) -> list[Question]:
    """Return a prompt about each group of entities, in a random scene."""
    return [
        Question(f"{', '.join(some[:-1])} and {some[-1]} {rng.choice(rng.choice(SCENES).phrases)}", some)
        for some in groups
    ]


def measure(find: Find, prompts: Sequence[Question], of_each: int) -> tuple[float, float]:
    """Search for `of_each` pairs of each entity.

    Returns:
        The share of prompts whose pairs are exactly the right ones, and the median milliseconds of a search.
    """
    right, taken = 0, []
    for question in prompts:
        started = time.perf_counter()
        hits = find(question.prompt, of_each * len(question.captions), 0.0, DEFAULT_RELEVANCE)
        taken.append((time.perf_counter() - started) * 1e3)
        right += Counter(hit.pair.caption for hit in hits) == dict.fromkeys(question.captions, of_each)
    return right / len(prompts), statistics.median(taken)


def main(folder: Path) -> None:
    """Measure, and print the table."""
    index, rng = KnowledgeBase.open(folder).index, random.Random(0)  # noqa: S311
    print(f"Pairs of each thing that a prompt names, {index.pairs:,} pairs, {PROMPTS} prompts a line; {machine()}")
    print(f"{'':36}{'plain search':>24}{'per entity':>24}")
    print(f"{'':36}{'right':>12}{'p50 ms':>12}{'right':>12}{'p50 ms':>12}")
    kinds = {
        "two things": random_entities(2, rng),
        "two that share a word": entities_that_share_a_word(index, rng),
        "three things": random_entities(3, rng),
    }
    for name, groups in kinds.items():
        prompts = questions(groups, rng)
        for of_each in (1, 2):
            line = f"{f'{name}, {of_each} of each':36}"
            finds: tuple[Find, ...] = (index.search, index.search_per_entity)
            for find in finds:
                measure(find, prompts, of_each)  # warms up Java's compiler
                share, median = measure(find, prompts, of_each)
                line += f"{share:12.2%}{median:12.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else knowledge_base.build(Path("build/demo")))
