"""Searches with Pyserini's own LuceneSearcher: `INDEX K`, queries on standard input, answers on standard output.

In a process of its own, because `tools.peer` replaces modules of Pyserini.
"""

import json
import sys

from tools.peer import searcher_class


def main(index: str, k: int) -> None:
    searcher = searcher_class()(index)
    queries = json.load(sys.stdin)
    json.dump([[(hit.docid, hit.score) for hit in searcher.search(query, k)] for query in queries], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
