"""Tables of hits and explanations for the command line."""

from collections.abc import Sequence

from rich.table import Table

from reimagen_retriever.index.hits import Hit
from reimagen_retriever.search import Explanation


def of_hits(hits: Sequence[Hit]) -> Table:
    """Return a table of hits, best first."""
    table = Table("rank", "score", "id", "text", "source", "license")
    for rank, hit in enumerate(hits, start=1):
        pair = hit.pair
        table.add_row(
            f"{rank}",
            f"{hit.score:.3f}",
            pair.id,
            pair.caption,
            pair.source,
            pair.license,
        )
    return table


def of_explanations(explanations: Sequence[Explanation]) -> Table:
    """Return a table that explains hits: one row per term, and the ranks and cosine."""
    table = Table("rank", "id", "found by", "names", "term", "times", "idf", "tf", "score")
    for rank, explanation in enumerate(explanations, start=1):
        hit = explanation.hit
        found_by = [f"rank {hit.bm25_rank} by words"] if hit.bm25_rank else []
        if hit.dense_rank:
            found_by.append(f"rank {hit.dense_rank} by vectors")
        if hit.cosine is not None:
            found_by.append(f"cosine {hit.cosine:.3f}")
        heading = (f"{rank}", hit.pair.id, ", ".join(found_by) or "words", ", ".join(explanation.named))
        terms = [
            (term.term, f"{term.times}", f"{term.idf:.3f}", f"{term.tf:.3f}", f"{term.score:.3f}")
            for term in explanation.terms
        ]
        for row, term in enumerate(terms or [("",) * 5]):
            table.add_row(*(heading if row == 0 else ("",) * 3), *term)
    return table
