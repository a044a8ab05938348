"""What would take a call into Java for each hit, document or query, done by Java's streams in one call.

A call takes microseconds, and an array that Java returns is taken apart object by object. So Java's method handles are
put together to what a stream does for each element, and what comes back is one string.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from reimagen_retriever.index.jvm import cast, java_class

Ranking = list[tuple[int, float]]
"""Numbers of documents and their scores, best first."""

_BETWEEN = "\x1e"
"""A control character, as JSON and other text have none, between the elements of a stream."""
_FUNCTION = "java.util.function.Function"
_SCORE_DOC = re.compile(r"doc=(\d+) score=(\S+)")
"""As `ScoreDoc.toString` writes it: of a float, as many digits as tell it from all others."""


def ranking(top_docs: Any) -> Ranking:
    """What Lucene's `TopDocs` lists."""
    return _parsed(_teller().apply(top_docs))


class Documents:
    """Reads a stored field, which is JSON, of documents."""

    def __init__(self, stored_fields: Any, field: str) -> None:
        document = _lookup().findVirtual(
            java_type("org.apache.lucene.index.StoredFields"),
            "document",
            _method(java_type("org.apache.lucene.document.Document"), java_class("java.lang.Integer").TYPE),
        )
        of_document = _handles().insertArguments(
            _getter_of_a_field(), 1, _object(java_class("java.lang.String")(field))
        )
        read = _handles().filterReturnValue(document.bindTo(_object(stored_fields)), of_document)
        self._read = as_interface("java.util.function.IntFunction", read)

    def read(self, documents: Sequence[int]) -> list[str]:
        """The field of each of the documents, one at least."""
        numbers = java_class("java.util.stream.IntStream").of(*documents)
        told: str = numbers.mapToObj(self._read).collect(_joined())
        return told.split(_BETWEEN)


class Searches:
    """Ranks documents for many queries at once.

    Args:
        searcher: Lucene's.
        generator: Anserini's, which makes a query of a text.
        analyzer: What it takes texts apart with.
        field: Where is looked.
    """

    def __init__(self, searcher: Any, generator: Any, analyzer: Any, field: str) -> None:
        string, query = java_type("java.lang.String"), java_type("org.apache.lucene.search.Query")
        build = _lookup().findVirtual(
            java_type("io.anserini.search.query.BagOfWordsQueryGenerator"),
            "buildQuery",
            _method(query, string, java_type("org.apache.lucene.analysis.Analyzer"), string),
        )
        whole = build.bindTo(_object(generator))
        self._query = _handles().insertArguments(
            whole, 0, _object(java_class("java.lang.String")(field)), _object(analyzer)
        )
        search = _lookup().findVirtual(
            java_type("org.apache.lucene.search.IndexSearcher"),
            "search",
            _method(java_type("org.apache.lucene.search.TopDocs"), query, java_class("java.lang.Integer").TYPE),
        )
        self._search = search.bindTo(_object(searcher))

    def rankings(self, queries: Sequence[str], count: int, *, parallel: bool) -> list[Ranking]:
        """The first documents, so many at most, for each of the queries.

        Args:
            queries: One at least.
            count: How many documents at most.
            parallel: On all cores.
        """
        search = _handles().insertArguments(self._search, 1, _object(java_class("java.lang.Integer")(count)))
        told = _handles().filterReturnValue(_handles().filterReturnValue(self._query, search), _told())
        texts = java_class("java.util.Arrays").asList(*queries)
        stream = texts.parallelStream() if parallel else texts.stream()
        rankings: str = stream.map(as_interface(_FUNCTION, told)).collect(_joined())
        return [_parsed(one) for one in rankings.split(_BETWEEN)]


def java_type(name: str) -> Any:
    """Java's object that stands for a class, an array's by a name such as `[Ljava.lang.Object;`."""
    return java_class("java.lang.Class").forName(name)


def as_interface(name: str, handle: Any) -> Any:
    """A method handle as an object of an interface with one method."""
    proxies = java_class("java.lang.invoke.MethodHandleProxies")
    return cast(name, proxies.asInterfaceInstance(java_type(name), handle))


def _parsed(told: str) -> Ranking:
    found = _SCORE_DOC.findall(told)
    scores = np.array([score for _, score in found], np.float32).tolist()
    return [(int(document), score) for (document, _), score in zip(found, scores, strict=True)]


@cache
def _told() -> Any:
    """From `TopDocs` to what `Arrays.toString` says of its hits."""
    hits = java_type("[Lorg.apache.lucene.search.ScoreDoc;")
    of_top_docs = _lookup().findGetter(java_type("org.apache.lucene.search.TopDocs"), "scoreDocs", hits)
    string = java_type("java.lang.String")
    told = _lookup().findStatic(
        java_type("java.util.Arrays"), "toString", _method(string, java_type("[Ljava.lang.Object;"))
    )
    return _handles().filterReturnValue(of_top_docs, told.asType(_method(string, hits)))


@cache
def _getter_of_a_field() -> Any:
    string = java_type("java.lang.String")
    return _lookup().findVirtual(java_type("org.apache.lucene.document.Document"), "get", _method(string, string))


@cache
def _teller() -> Any:
    return as_interface(_FUNCTION, _told())


@cache
def _joined() -> Any:
    between = cast("java.lang.CharSequence", java_class("java.lang.String")(_BETWEEN))
    return java_class("java.util.stream.Collectors").joining(between)


def _object(instance: Any) -> Any:
    return cast("java.lang.Object", instance)


def _method(returned: Any, *taken: Any) -> Any:
    return java_class("java.lang.invoke.MethodType").methodType(returned, *taken)


def _lookup() -> Any:
    return _handles().publicLookup()


def _handles() -> Any:
    return java_class("java.lang.invoke.MethodHandles")
