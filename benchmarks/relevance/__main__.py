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
from reimagen_retriever.index.bm25 import BM25Index, Relevance
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.pair import StoredPair

K = 2
RULES: dict[str, Relevance] = {
    "any: plain top-k (the paper)": "any",
    "entity (default)": "entity",
    "phrase": "phrase",
}


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
                    contents=caption.text,
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
    """Ask for each prompt; each wrong answer is told."""
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


def main(*, held_back: bool, misses: bool) -> None:
    """Measure, and print the table."""
    half = "held-back" if held_back else "development"
    print(f"{'base, ' + half + ' half':36}{'right first':>14}{'nothing found':>16}{'false finds':>14}")
    for name in BASES:
        captions, prompts = read(name)
        asked = [prompt for prompt in prompts if prompt.held_back == held_back]
        there = sum(bool(prompt.right) for prompt in asked)
        print(f"{name}: {len(captions):,} captions, {there} prompts for what is there, {len(asked) - there} for others")
        with tempfile.TemporaryDirectory() as folder:
            index = index_of(captions, Path(folder))
            for rule, relevance in RULES.items():

                def find(query: str, index: BM25Index = index, relevance: Relevance = relevance) -> list[str]:
                    return [hit.pair.id for hit in index.search(query, K, 0.0, relevance)]

                tell = print if misses and relevance == "entity" else lambda _: None
                result = measure(find, asked, tell)
                print(f"  {rule:34}{result.right_first:14.1%}{result.nothing_found:16.1%}{result.false_finds:14.1%}")
            index.close()


if __name__ == "__main__":
    main(held_back="--held-back" in sys.argv, misses="--misses" in sys.argv)
