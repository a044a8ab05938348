"""How often a search finds the entity that a prompt names, by each rule of relevance.

For prompts about entities that the base contains, the table shows how often the first pair shows one, and how often
nothing is found. For prompts about other entities it shows how often something is found nevertheless.

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
    """Index the captions, without images."""
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
    find: Callable[[str], list[str]], prompts: Sequence[Prompt], report: Callable[[str], None] = lambda _: None
) -> Result:
    """Search for each prompt, report the wrong answers, and return the shares."""
    present, absent = [p for p in prompts if p.right], [p for p in prompts if not p.right]
    right = nothing = false = 0
    for prompt in present:
        found = find(prompt.text)
        right += found[:1] != [] and found[0] in prompt.right
        nothing += not found
        if not found or found[0] not in prompt.right:
            report(f"{prompt.kind}: {prompt.text!r} found {found[:1] or 'nothing'}, right: {list(prompt.right)[:3]}")
    for prompt in absent:
        found = find(prompt.text)
        false += bool(found)
        if found:
            report(f"{prompt.kind}, not there: {prompt.text!r} found {found[:1]}")
    return Result(right / len(present), nothing / len(present), false / len(absent))


def rules(index: BM25Index, captions: Sequence[Caption]) -> dict[str, Find]:
    """Return the search function of each rule of relevance, by the rule's name."""

    def by(relevance: Relevance) -> Find:
        return lambda prompt: [hit.pair.id for hit in index.search(prompt, K, 0.0, relevance)]

    overlap = Overlap(index, captions)
    return {PLAIN: by("any"), BEFORE: lambda prompt: overlap.find(prompt, K), NOW: by("entity"), STRICT: by("phrase")}


def demonstration() -> str:
    """Return how often both of the first two pairs show the entity, for the demonstration's prompts."""
    base = KnowledgeBase.open(DEMONSTRATION)
    made = questions(entities(), PROMPTS, seed=0)
    found = [[hit.pair.caption for hit in base.index.search(one.prompt, K, 0.0, "entity")] for one in made]
    right = sum(captions == [one.entity.phrase] * K for captions, one in zip(found, made, strict=True))
    base.close()
    return f"the demonstration's base, {PROMPTS} prompts: both of the first two right in {right / PROMPTS:.1%}"


def main(*, held_back: bool, misses: bool) -> None:
    """Measure, and print the table."""
    half = "held-back" if held_back else "development"
    print(f"{f'base, {half} half':36}{'right first':>14}{'nothing found':>16}{'false finds':>14}")
    for name in BASES:
        captions, prompts = read(name)
        chosen = [prompt for prompt in prompts if prompt.held_back == held_back]
        present = sum(bool(prompt.right) for prompt in chosen)
        absent = len(chosen) - present
        print(f"{name}: {len(captions):,} captions, {present} prompts for what is there, {absent} for others")
        with tempfile.TemporaryDirectory() as folder:
            index = index_of(captions, Path(folder))
            for rule, find in rules(index, captions).items():
                result = measure(find, chosen, print if misses and rule == NOW else lambda _: None)
                print(f"  {rule:34}{result.right_first:14.1%}{result.nothing_found:16.1%}{result.false_finds:14.1%}")
            index.close()
    print(
        demonstration()
        if DEMONSTRATION.exists()
        else "`make kb` builds the demonstration's base, which is then measured"
    )


if __name__ == "__main__":
    main(held_back="--held-back" in sys.argv, misses="--misses" in sys.argv)
