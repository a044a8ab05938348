"""Searches with Pyserini's own LuceneSearcher: `INDEX K`, queries on standard input, answers on standard output.

Importing it the usual way imports Torch, for encoders that BM25 has no use for. So the module that defines it is loaded
by itself, in a process of its own, with the three names that it takes from its package.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

from reimagen_retriever.index.jvm import java_class, start_jvm


def main(index: str, k: int) -> None:
    start_jvm()
    package = types.ModuleType("pyserini.search.lucene")
    package.__dict__.update(
        JQuery=java_class("org.apache.lucene.search.Query"),
        JQueryGenerator=java_class("io.anserini.search.query.QueryGenerator"),
        JScoredDoc=java_class("io.anserini.search.ScoredDoc"),
    )
    sys.modules["pyserini.search.lucene"] = package
    pyserini = importlib.util.find_spec("pyserini")
    assert pyserini
    assert pyserini.origin
    path = Path(pyserini.origin).parent / "search" / "lucene" / "_searcher.py"
    spec = importlib.util.spec_from_file_location("pyserini_searcher", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    searcher = module.LuceneSearcher(index)
    queries = json.load(sys.stdin)
    json.dump([[(hit.docid, hit.score) for hit in searcher.search(query, k)] for query in queries], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
