"""How often retrieval finds the entity that a prompt names, measured through the real service.

`python -m reimagen_demo.recall` builds the knowledge base if need be, asks 400 prompts "entity + scene", and prints a
table. A prompt counts as found when both of its top two pairs show the named entity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import grpc
from rich.table import Table

from reimagen.v1 import retrieval_pb2, retrieval_pb2_grpc
from reimagen_common.local_redis import LocalRedis
from reimagen_demo import knowledge_base
from reimagen_demo.entities import Entity, entities
from reimagen_demo.running import Retriever, console
from reimagen_demo.scenes import SCENES

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
    """What came of the questions."""

    asked: int
    both: int
    """Questions whose top two are both the entity's."""
    first: int
    """Questions whose best pair is the entity's."""
    misses: tuple[tuple[Question, tuple[str, ...]], ...]
    """Questions that are not in `both`, with the texts that were found."""


def questions(wanted: Sequence[Entity], count: int, seed: int) -> list[Question]:
    """Prompts of a random entity in a random scene, in any of the scene's phrases."""
    rng = Random(seed)
    chosen = [rng.choice(wanted) for _ in range(count)]
    return [Question(f"{entity.phrase} {rng.choice(rng.choice(SCENES).phrases)}", entity) for entity in chosen]


def measure(address: str, asked: Sequence[Question], minimum_score: float | None) -> Recall:
    """Asks the retriever at that address; a minimum score of None leaves the judgement to the service."""
    both = first = 0
    misses = []
    with grpc.insecure_channel(address) as channel:
        retriever = retrieval_pb2_grpc.RetrievalStub(channel)
        for question in asked:
            request = retrieval_pb2.SearchRequest(
                query=question.prompt, k=TOP, omit_images=True, minimum_score=minimum_score
            )
            answer = retriever.Search(request, timeout=SEARCH_SECONDS)
            found = tuple(neighbor.pair.text for neighbor in answer.neighbors)
            first += found[:1] == (question.entity.phrase,)
            if found == (question.entity.phrase,) * TOP:
                both += 1
            else:
                misses.append((question, found))
    return Recall(len(asked), both, first, tuple(misses))


def main() -> None:
    """Measures and prints."""
    folder = Path("build/demo")
    base = knowledge_base.build(folder)
    asked = questions(entities(), PROMPTS, SEED)
    with LocalRedis() as redis, Retriever(base, redis.url, folder / "logs") as retriever:
        retriever.wait()
        results = {
            "the service's default": measure(retriever.address, asked, None),
            "plain BM25 (minimum_score 0)": measure(retriever.address, asked, 0),
        }
    table = Table("judgement", "prompts", f"recall@{TOP}", "best is right")
    for name, result in results.items():
        table.add_row(
            name, f"{result.asked}", f"{result.both / result.asked:.1%}", f"{result.first / result.asked:.1%}"
        )
    console.print(table)
    for name, result in results.items():
        for question, found in result.misses:
            texts = ", ".join(map(repr, found)) or "nothing"
            console.print(f"missed by {name}: {question.prompt!r} found {texts}", soft_wrap=True)


if __name__ == "__main__":
    main()
