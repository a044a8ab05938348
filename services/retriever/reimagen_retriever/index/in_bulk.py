"""Bulk operations in Java: process all hits, documents or terms with Java streams in one call.

A call from Python into Java takes microseconds, and pyjnius converts a returned array object by object. Therefore
method handles are composed into a function that a stream applies to each element, and the result is a single string.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from reimagen_retriever.index.jvm import cast, java_class

Ranking = list[tuple[int, float]]
"""Document numbers and their scores, best first."""

_SEPARATOR = "\x1e"
"""Separates the elements of a stream. JSON text contains no control characters."""
_AT_ONCE = 10_000
_FUNCTION = "java.util.function.Function"
_NUMBER = re.compile(r"doc=(\d+) ")
"""The beginning of `ScoreDoc.toString`."""
_HIT = re.compile(r"doc=(\d+) score=NaN shardIndex=-?\d+ fields=\[([^,]+)")
"""The beginning of `FieldDoc.toString`. Java prints floats with enough digits to restore them exactly."""


def documents(top_docs: Any) -> list[int]:
    """Return the document numbers in Lucene's `TopDocs`."""
    return [int(number) for number in _NUMBER.findall(_hits_to_string().apply(top_docs))]


class Documents:
    """A reader of a doc-values field that holds JSON.

    Args:
        reader: Lucene's reader.
        field: The name of the field.
    """

    def __init__(self, reader: Any, field: str) -> None:
        read = _value_of(reader, field)
        self._read = as_interface("java.util.function.IntFunction", read)
        self._found = as_interface(_FUNCTION, _for_each_hit(_hit_and(read)))

    def read(self, documents: Sequence[int]) -> list[str]:
        """Return the field of each of at least one document."""
        numbers = java_class("java.util.stream.IntStream").of(*documents)
        joined: str = numbers.mapToObj(self._read).collect(_joined())
        return joined.split(_SEPARATOR)

    def found(self, top_docs: Any) -> tuple[Ranking, list[str]]:
        """Return the ranking in Lucene's `TopDocs`, sorted by score first, and the field of each document."""
        joined: str = self._found.apply(top_docs)
        hits = joined.split(_SEPARATOR) if joined else []
        # Match at the beginning only, because the field may contain text that looks like a hit.
        return _ranking(filter(None, map(_HIT.match, hits))), [hit[hit.index("{") :] for hit in hits]


def document_frequencies(reader: Any, field: str, terms: Sequence[str]) -> list[int]:
    """Return the number of documents of an `IndexReader` that have each of the terms in a field."""
    string, term = java_type("java.lang.String"), java_type("org.apache.lucene.index.Term")
    make = _lookup().findConstructor(term, _method(java_class("java.lang.Void").TYPE, string, string))
    of_field = _handles().insertArguments(make, 0, _object(java_class("java.lang.String")(field)))
    count = _lookup().findVirtual(
        java_type("org.apache.lucene.index.IndexReader"), "docFreq", _method(java_class("java.lang.Integer").TYPE, term)
    )
    counted = _handles().filterReturnValue(of_field, count.bindTo(_object(reader)))
    of_text = as_interface("java.util.function.ToIntFunction", counted)
    frequencies: list[int] = []
    for start in range(0, len(terms), _AT_ONCE):
        texts = java_class("java.util.Arrays").asList(*terms[start : start + _AT_ONCE])
        frequencies += texts.stream().mapToInt(of_text).toArray()
    return frequencies


def java_type(name: str) -> Any:
    """Return Java's `Class` object of a name. Array types have names such as `[Ljava.lang.Object;`."""
    return java_class("java.lang.Class").forName(name)


def as_interface(name: str, handle: Any) -> Any:
    """Wrap a method handle in an object of an interface with one method."""
    proxies = java_class("java.lang.invoke.MethodHandleProxies")
    return cast(name, proxies.asInterfaceInstance(java_type(name), handle))


def _ranking(hits: Iterable[re.Match[str]]) -> Ranking:
    numbers_and_scores = [hit.groups() for hit in hits]
    scores = array("f", [float(score) for _, score in numbers_and_scores])
    return [(int(document), score) for (document, _), score in zip(numbers_and_scores, scores, strict=True)]


def _value_of(reader: Any, field: str) -> Any:
    """Return a handle from a document number to its value in a doc-values field that every document has.

    Doc values can only be read forward, so each document opens new ones: a microsecond per segment.
    """
    string, values = java_type("java.lang.String"), java_type("org.apache.lucene.index.BinaryDocValues")
    number, boolean = java_class("java.lang.Integer").TYPE, java_class("java.lang.Boolean").TYPE
    as_bytes = java_type("org.apache.lucene.util.BytesRef")
    of_all = _lookup().findStatic(
        java_type("org.apache.lucene.index.MultiDocValues"),
        "getBinaryValues",
        _method(values, java_type("org.apache.lucene.index.IndexReader"), string),
    )
    get = _handles().insertArguments(of_all, 0, _object(reader), _object(java_class("java.lang.String")(field)))
    advance = _lookup().findVirtual(values, "advanceExact", _method(boolean, number))
    value = _handles().filterReturnValue(
        _lookup().findVirtual(values, "binaryValue", _method(as_bytes)),
        _lookup().findVirtual(as_bytes, "utf8ToString", _method(string)),
    )
    advanced = _handles().dropArguments(_handles().dropArguments(value, 1, number), 0, boolean)
    return _handles().foldArguments(_handles().foldArguments(advanced, advance), get)


def _hit_and(read: Any) -> Any:
    """Return a handle from a `ScoreDoc` to its `toString` followed by the field of its document."""
    hit, string = java_type("org.apache.lucene.search.ScoreDoc"), java_type("java.lang.String")
    number = _lookup().findGetter(hit, "doc", java_class("java.lang.Integer").TYPE)
    to_string = _lookup().findVirtual(hit, "toString", _method(string))
    concatenate = _lookup().findVirtual(string, "concat", _method(string, string))
    both = _handles().filterArguments(concatenate, 0, to_string, _handles().filterArguments(read, 0, number))
    return _handles().permuteArguments(both, _method(string, hit), 0, 0)


def _for_each_hit(handle: Any) -> Any:
    """Return a handle from `TopDocs` to the joined results of a handle for each hit."""
    string, stream = java_type("java.lang.String"), java_type("java.util.stream.Stream")
    hits = java_type("[Lorg.apache.lucene.search.ScoreDoc;")
    streamed = _lookup().findStatic(
        java_type("java.util.Arrays"), "stream", _method(stream, java_type("[Ljava.lang.Object;"))
    )
    mapped = _lookup().findVirtual(stream, "map", _method(stream, java_type(_FUNCTION)))
    collected = _lookup().findVirtual(
        stream, "collect", _method(java_type("java.lang.Object"), java_type("java.util.stream.Collector"))
    )
    whole = _lookup().findGetter(java_type("org.apache.lucene.search.TopDocs"), "scoreDocs", hits)
    for following in (
        streamed.asType(_method(stream, hits)),
        _handles().insertArguments(mapped, 1, _object(as_interface(_FUNCTION, handle))),
        _handles().insertArguments(collected, 1, _object(_joined())).asType(_method(string, stream)),
    ):
        whole = _handles().filterReturnValue(whole, following)
    return whole


@cache
def _hits_to_string() -> Any:
    """Return a function from `TopDocs` to the `Arrays.toString` of its hits."""
    hits = java_type("[Lorg.apache.lucene.search.ScoreDoc;")
    of_top_docs = _lookup().findGetter(java_type("org.apache.lucene.search.TopDocs"), "scoreDocs", hits)
    string = java_type("java.lang.String")
    to_string = _lookup().findStatic(
        java_type("java.util.Arrays"), "toString", _method(string, java_type("[Ljava.lang.Object;"))
    )
    return as_interface(_FUNCTION, _handles().filterReturnValue(of_top_docs, to_string.asType(_method(string, hits))))


@cache
def _joined() -> Any:
    separator = cast("java.lang.CharSequence", java_class("java.lang.String")(_SEPARATOR))
    return java_class("java.util.stream.Collectors").joining(separator)


def _object(instance: Any) -> Any:
    return cast("java.lang.Object", instance)


def _method(returned: Any, *taken: Any) -> Any:
    return java_class("java.lang.invoke.MethodType").methodType(returned, *taken)


def _lookup() -> Any:
    return _handles().publicLookup()


def _handles() -> Any:
    return java_class("java.lang.invoke.MethodHandles")
