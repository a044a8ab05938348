"""The neighbors of training samples: what the real retriever's index finds for their prompts.

The four pairs of an entity, one in each style, have the same caption and the same score. Which of them comes first is
left to the sample's seed here, where serving takes the smaller id, so that a network learns to draw from any style.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from random import Random

from tqdm import tqdm

from reimagen_demo.art import STYLES
from reimagen_demo.entities import Entity
from reimagen_demo.pairs import PairId
from reimagen_demo.prompts import Composition
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import BM25Index
from reimagen_retriever.settings import DEFAULT_MINIMUM_OVERLAP

NEIGHBORS = 2
"""Of a sample, at most."""
HITS = 8
"""How many pairs are asked for: all four of an entity, and some more to see what else BM25 takes for it."""
_BATCH = 1000

LIKE_THE_FIRST, LIKE_THE_SECOND = 0.65, 0.2
"""How often a thing is drawn in the style of the first neighbor that shows it, or the second; else in neither's, which
is the same thing in another picture."""

Ranked = tuple[tuple[str, ...], ...]
"""The ids of found pairs, best first; those of equal score together."""


def queries(composition: Composition, prompt: str) -> tuple[str, ...]:
    """What is asked for a sample: its prompt, or, where it names two entities, each of them."""
    if len(composition.entities) == 1:
        return (prompt,)
    return tuple(entity.phrase for entity in composition.entities)


def search_all(knowledge_base: Path, asked: Iterable[str]) -> dict[str, Ranked]:
    """Searches the knowledge base for each query, judging by overlap as the service does; shows its progress.

    Raises:
        NotFound: there is no finished knowledge base in the folder.
    """
    base = KnowledgeBase.open(knowledge_base)
    try:
        return search_index(base.index, asked)
    finally:
        base.close()


def search_index(index: BM25Index, asked: Iterable[str]) -> dict[str, Ranked]:
    """The same of an open index."""
    distinct = sorted(set(asked))
    found: dict[str, Ranked] = {}
    with tqdm(total=len(distinct), desc="searching", unit="query") as progress:
        for first in range(0, len(distinct), _BATCH):
            batch = distinct[first : first + _BATCH]
            for query, hits in zip(batch, index.search_batch(batch, HITS, DEFAULT_MINIMUM_OVERLAP), strict=True):
                # A batch's scores are rounded to four decimals, less a millionth for each tie.
                ties = groupby(hits, key=lambda hit: round(hit.score, 4))
                found[query] = tuple(tuple(hit.pair.id for hit in group) for _, group in ties)
            progress.update(len(batch))
    return found


def neighbors_of(rng: Random, composition: Composition, prompt: str, found: Mapping[str, Ranked]) -> tuple[str, ...]:
    """The ids of a sample's neighbors: the prompt's best two, or each entity's best one.

    Args:
        rng: Decides between equal scores.
        composition: What the sample shows.
        prompt: How it says so.
        found: What `search_all` found for `queries` of this and other samples.
    """
    asked = queries(composition, prompt)
    return tuple(identifier for query in asked for identifier in _best(rng, found[query], NEIGHBORS // len(asked)))


def draw_style(rng: Random, entity: Entity, neighbors: Sequence[str]) -> str:
    """The style that an entity is drawn in, from those of the neighbors that show it."""
    pairs = [PairId.parse(neighbor) for neighbor in neighbors]
    shown = [pair.style for pair in pairs if pair.code == entity.code]
    others = [style.name for style in STYLES if style.name not in shown]
    lot = rng.random()
    if shown and lot < LIKE_THE_FIRST:
        return shown[0]
    if shown and lot < LIKE_THE_FIRST + LIKE_THE_SECOND:
        return shown[-1]
    return rng.choice(others)


def _best(rng: Random, ranked: Ranked, k: int) -> list[str]:
    return [identifier for ties in ranked for identifier in rng.sample(ties, len(ties))][:k]
