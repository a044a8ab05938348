"""Pyserini's own indexer and searcher, which tests and benchmarks compare with ours.

A plain import of either loads Torch, which BM25 does not need, and from Pyserini 2 on also downloads lists of prebuilt
indexes. Therefore stand-ins take the place of the modules that do so.
"""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from reimagen_retriever.index.jvm import java_class, start_jvm

_NOT_NEEDED: dict[str, dict[str, Any]] = {
    "pyserini.prebuilt_index_info": {"TF_INDEX_INFO": {}, "IMPACT_INDEX_INFO": {}},
    "pyserini.util": {"download_prebuilt_index": None, "get_sparse_indexes_info": None},
}


def indexer_class() -> Any:
    """Return Pyserini's LuceneIndexer."""
    _prepare()
    from pyserini.index.lucene import LuceneIndexer

    return LuceneIndexer


def searcher_class() -> Any:
    """Return Pyserini's LuceneSearcher."""
    _prepare()
    spec = importlib.util.find_spec("pyserini")
    if not spec or not spec.origin:
        raise RuntimeError("pyserini is not installed")
    folder = Path(spec.origin).parent / "search" / "lucene"
    package = _module(
        "pyserini.search.lucene",
        {
            "JQuery": java_class("org.apache.lucene.search.Query"),
            "JQueryGenerator": java_class("io.anserini.search.query.QueryGenerator"),
            "JScoredDoc": java_class("io.anserini.search.ScoredDoc"),
        },
    )
    package.__path__ = [str(folder)]
    return importlib.import_module("pyserini.search.lucene._searcher").LuceneSearcher


def _prepare() -> None:
    start_jvm()
    for name, content in _NOT_NEEDED.items():
        _module(name, content)


def _module(name: str, content: dict[str, Any]) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module
    return module
