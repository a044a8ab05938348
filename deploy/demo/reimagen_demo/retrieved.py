"""The neighbors of training samples: what the real retriever's index finds for their prompts.

The four pairs of an entity, one in each style, have the same caption, so that they are the same to BM25. Which of them
comes first is left to the sample's seed here, where serving takes the smaller id: a network learns to draw from any
style.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from tqdm import tqdm

from reimagen_demo.art import STYLES
from reimagen_demo.entities import Entity
from reimagen_demo.pairs import PairId
from reimagen_demo.prompts import Composition
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE, BM25Index
from reimagen_retriever.neighbors.captions import read_captions
from reimagen_retriever.neighbors.ranking import Ranking

NEIGHBORS = 2
"""Of a sample, at most."""
HITS = 8
"""How many pairs are asked for: with them all of one caption, or of two, are known."""
_BATCH = 1000

LIKE_THE_FIRST, LIKE_THE_SECOND = 0.65, 0.2
"""How often a thing is drawn in the style of the first neighbor that shows it, or the second; else in neither's, which
is the same thing in another picture."""

Found = tuple[str, ...]
"""The ids of the pairs that a prompt finds, best first."""


def search_all(knowledge_base: Path, compositions: Sequence[Composition], prompts: Sequence[str]) -> list[Found]:
    """What each prompt finds in the knowledge base, by the service's own judgement; shows its progress.

    Raises:
        NotFound: there is no finished knowledge base in the folder.
    """
    base = KnowledgeBase.open(knowledge_base)
    try:
        return search_index(base.index, compositions, prompts)
    finally:
        base.close()


def search_index(index: BM25Index, compositions: Sequence[Composition], prompts: Sequence[str]) -> list[Found]:
    """The same of an open index; where a prompt names two entities, pairs of each are asked for (`per_entity`)."""
    of_one = sorted({prompt for shown, prompt in zip(compositions, prompts, strict=True) if len(shown.entities) == 1})
    of_two = sorted(set(prompts) - set(of_one))
    found: dict[str, Found] = {}
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(of_one) + len(of_two), desc="searching", unit="prompt") as progress,
    ):
        ranking = Ranking(read_captions(index, index.in_order()), index, pool)
        for first in range(0, len(of_one), _BATCH):
            batch = of_one[first : first + _BATCH]
            for prompt, hits in zip(batch, ranking.search(batch, HITS, DEFAULT_RELEVANCE), strict=True):
                found[prompt] = tuple(hit.pair.id for hit in hits)
            progress.update(len(batch))
        for prompt in of_two:
            hits = index.search_per_entity(prompt, HITS, 0.0, DEFAULT_RELEVANCE)
            found[prompt] = tuple(hit.pair.id for hit in hits)
            progress.update()
    return [found[prompt] for prompt in prompts]


def choose_neighbors(rng: Random, found: Found) -> tuple[str, ...]:
    """The ids of a sample's neighbors: the best of those found, any one of those with the same caption."""
    equal = defaultdict(list)
    for identifier in found:
        equal[PairId.parse(identifier).caption].append(identifier)
    for identifiers in equal.values():
        rng.shuffle(identifiers)
    return tuple(equal[PairId.parse(identifier).caption].pop() for identifier in found[:NEIGHBORS])


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
