"""How often a search finds the thing that a prompt names, by each rule of relevance.

For each base, of prompts for things that are there: how often the first pair shows one, and how often nothing is
found; of prompts for things that are not there: how often something is found all the same.

    python -m benchmarks.relevance [--held-back] [--misses]
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.relevance import BASES, Caption, Prompt, read
from benchmarks.relevance.overlap import Overlap
from reimagen_demo.art.entities import entities
from reimagen_demo.report.recall import questions
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import BM25Index, Relevance
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.pair import StoredPair

K = 2
PLAIN, BEFORE, NOW, STRICT = "any: plain top-k (the paper)", "overlap from 0.6 (before)", "entity (default)", "phrase"
DEMONSTRATION = Path("build/demo/kb")
PROMPTS = 400

Find = Callable[[str], list[str]]


@dataclass(frozen=True)
class Result:
    """Shares of the prompts of a base."""

    right_first: float
    nothing_found: float
    false_finds: float


def index_of(captions: Sequence[Caption], folder: Path) -> BM25Index:
    """Index the captions, without pictures."""
    with IndexWriter(folder) as writer:
        for number, caption in enumerate(captions):
            writer.add(
                StoredPair(
                    id=caption.id,
                    caption=caption.text,
                    shard="00000.tar",
                    offset=number,
                    length=1,
                    sha256="",
                    media_type="image/png",
                    width=1,
                    height=1,
                )
            )
        writer.commit({})
    return BM25Index(folder)


def measure(
    find: Callable[[str], list[str]], prompts: Sequence[Prompt], tell: Callable[[str], None] = lambda _: None
) -> Result:
    """Search for each prompt, and collect the wrong answers."""
    present, absent = [p for p in prompts if p.right], [p for p in prompts if not p.right]
    right = nothing = false = 0
    for prompt in present:
        found = find(prompt.text)
        right += found[:1] != [] and found[0] in prompt.right
        nothing += not found
        if not found or found[0] not in prompt.right:
            tell(f"{prompt.kind}: {prompt.text!r} found {found[:1] or 'nothing'}, right: {list(prompt.right)[:3]}")
    for prompt in absent:
        found = find(prompt.text)
        false += bool(found)
        if found:
            tell(f"{prompt.kind}, not there: {prompt.text!r} found {found[:1]}")
    return Result(right / len(present), nothing / len(present), false / len(absent))


def rules(index: BM25Index, captions: Sequence[Caption]) -> dict[str, Find]:
    """Return each rule of relevance, by its name."""

    def by(relevance: Relevance) -> Find:
        return lambda prompt: [hit.pair.id for hit in index.search(prompt, K, 0.0, relevance)]

    overlap = Overlap(index, captions)
    return {PLAIN: by("any"), BEFORE: lambda prompt: overlap.find(prompt, K), NOW: by("entity"), STRICT: by("phrase")}


def demonstration() -> str:
    """Return how often both of the first two pairs show the entity of the demonstration's own prompts."""
    base = KnowledgeBase.open(DEMONSTRATION)
    asked = questions(entities(), PROMPTS, seed=0)
    found = [[hit.pair.caption for hit in base.index.search(one.prompt, K, 0.0, "entity")] for one in asked]
    right = sum(texts == [one.entity.phrase] * K for texts, one in zip(found, asked, strict=True))
    base.close()
    return f"the demonstration's base, {PROMPTS} prompts: both of the first two right in {right / PROMPTS:.1%}"


def main(*, held_back: bool, misses: bool) -> None:
    """Measure, and print the table."""
    half = "held-back" if held_back else "development"
    print(f"{f'base, {half} half':36}{'right first':>14}{'nothing found':>16}{'false finds':>14}")
    for name in BASES:
        captions, prompts = read(name)
        asked = [prompt for prompt in prompts if prompt.held_back == held_back]
        there = sum(bool(prompt.right) for prompt in asked)
        print(f"{name}: {len(captions):,} captions, {there} prompts for what is there, {len(asked) - there} for others")
        with tempfile.TemporaryDirectory() as folder:
            index = index_of(captions, Path(folder))
            for rule, find in rules(index, captions).items():
                result = measure(find, asked, print if misses and rule == NOW else lambda _: None)
                print(f"  {rule:34}{result.right_first:14.1%}{result.nothing_found:16.1%}{result.false_finds:14.1%}")
            index.close()
    print(
        demonstration() if DEMONSTRATION.exists() else "`make kb` builds the demonstration's base, to be measured too"
    )


if __name__ == "__main__":
    main(held_back="--held-back" in sys.argv, misses="--misses" in sys.argv)
