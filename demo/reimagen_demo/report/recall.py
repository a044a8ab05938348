"""Measure how often retrieval finds the entity that a prompt names, with the real service.

`python -m reimagen_demo.report.recall` builds the knowledge base if necessary, searches for 400 prompts of each kind,
and prints a table. A prompt counts as found if both of its top two pairs show the named entity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import grpc
from rich.table import Table

from reimagen.v1 import retrieval_pb2, retrieval_pb2_grpc
from reimagen_common.local_redis import LocalRedis
from reimagen_demo.art.entities import Entity, entities
from reimagen_demo.data.compositions import Composition, draw_composition
from reimagen_demo.data.prompts import prompt_of
from reimagen_demo.scenes.registry import SCENES
from reimagen_demo.stack import knowledge_base
from reimagen_demo.stack.running import RetrieverProcess, console

PROMPTS = 400
TOP = 2
SEED = 0
SEARCH_SECONDS = 30.0


@dataclass(frozen=True)
class Question:
    """A prompt and the entity that it names."""

    prompt: str
    entity: Entity


@dataclass(frozen=True)
class Recall:
    """The result of a set of questions."""

    asked: int
    both: int
    """Number of questions whose top two pairs both show the entity."""
    first: int
    """Number of questions whose best pair shows the entity."""
    misses: tuple[tuple[Question, tuple[str, ...]], ...]
    """Questions that are not in `both`, with the captions that were found."""


def questions(pool: Sequence[Entity], count: int, seed: int, *, unseen: bool = False) -> list[Question]:
    """Return prompts of a random entity in a random scene, in any of the scene's wordings.

    Args:
        pool: entities to draw from.
        count: number of prompts.
        seed: the same seed gives the same prompts.
        unseen: whether to use the wordings that training never uses.
    """
    rng = Random(seed)
    chosen = [Composition.plain(rng.choice(pool), rng.choice(SCENES)) for _ in range(count)]
    return [Question(prompt_of(rng, shown, unseen=unseen), shown.entities[0]) for shown in chosen]


def geometry_questions(count: int, seed: int) -> list[Question]:
    """Return prompts of one thing that state its size, place, mirroring, turn or number, the time or the weather."""
    rng, drawn = Random(seed), list[Question]()
    while len(drawn) < count:
        shown = draw_composition(rng, "all", plain=False)
        if len(shown.things) == 1 and not shown.is_plain:
            drawn.append(Question(prompt_of(rng, shown), shown.entities[0]))
    return drawn


def measure(address: str, asked: Sequence[Question], minimum_score: float | None) -> Recall:
    """Search with the retriever at that address; a minimum score of None applies the service's default relevance."""
    both = first = 0
    misses = []
    with grpc.insecure_channel(address) as channel:
        retriever = retrieval_pb2_grpc.RetrievalStub(channel)
        for question in asked:
            request = retrieval_pb2.SearchRequest(
                query=question.prompt, k=TOP, omit_images=True, minimum_score=minimum_score
            )
            answer = retriever.Search(request, timeout=SEARCH_SECONDS)
            found = tuple(neighbor.pair.caption for neighbor in answer.neighbors)
            first += found[:1] == (question.entity.phrase,)
            if found == (question.entity.phrase,) * TOP:
                both += 1
            else:
                misses.append((question, found))
    return Recall(len(asked), both, first, tuple(misses))


def main() -> None:
    """Measure and print recall."""
    folder = Path("build/demo")
    base = knowledge_base.build(folder)
    asked = {
        "an entity in a scene": questions(entities(), PROMPTS, SEED),
        "the scene in words unseen in training": questions(entities(), PROMPTS, SEED, unseen=True),
        "geometry, time or weather stated": geometry_questions(PROMPTS, SEED),
    }
    rules = {"the service's default": None, "plain BM25 (minimum_score 0)": 0.0}
    table, misses = Table("prompts", "rule", "number", f"recall@{TOP}", "best is right"), []
    with LocalRedis() as redis, RetrieverProcess(base, redis.url, folder / "logs") as retriever:
        retriever.wait()
        for kind, of_kind in asked.items():
            for rule, minimum_score in rules.items():
                result = measure(retriever.address, of_kind, minimum_score)
                both, first = result.both / result.asked, result.first / result.asked
                table.add_row(kind, rule, f"{result.asked}", f"{both:.1%}", f"{first:.1%}")
                misses += [(rule, *miss) for miss in result.misses]
    console.print(table)
    for rule, question, found in misses:
        texts = ", ".join(map(repr, found)) or "nothing"
        console.print(f"missed by {rule}: {question.prompt!r} found {texts}", soft_wrap=True)


if __name__ == "__main__":
    main()
