"""What would take a call into Java for each hit, document or term, done by Java's streams in one call.

A call takes microseconds, and an array that Java returns is taken apart object by object. So Java's method handles are
put together to what a stream does for each element, and what comes back is one string.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from reimagen_retriever.index.jvm import cast, java_class

Ranking = list[tuple[int, float]]
"""Numbers of documents and their scores, best first."""

_BETWEEN = "\x1e"
"""A control character, as JSON and other text have none, between the elements of a stream."""
_AT_ONCE = 10_000
_FUNCTION = "java.util.function.Function"
_NUMBER = re.compile(r"doc=(\d+) ")
"""As `ScoreDoc.toString` begins."""
_HIT = re.compile(r"doc=(\d+) score=NaN shardIndex=-?\d+ fields=\[([^,]+)")
"""As `FieldDoc.toString` begins: of a float, as many digits as tell it from all others."""


def documents(top_docs: Any) -> list[int]:
    """The numbers of what Lucene's `TopDocs` lists."""
    return [int(number) for number in _NUMBER.findall(_teller().apply(top_docs))]


class Documents:
    """Reads a field of doc values, which is JSON, of documents.

    Args:
        reader: Lucene's.
        field: The field's name.
    """

    def __init__(self, reader: Any, field: str) -> None:
        read = _value_of(reader, field)
        self._read = as_interface("java.util.function.IntFunction", read)
        self._found = as_interface(_FUNCTION, _for_each_hit(_hit_and(read)))

    def read(self, documents: Sequence[int]) -> list[str]:
        """The field of each of the documents, one at least."""
        numbers = java_class("java.util.stream.IntStream").of(*documents)
        told: str = numbers.mapToObj(self._read).collect(_joined())
        return told.split(_BETWEEN)

    def found(self, top_docs: Any) -> tuple[Ranking, list[str]]:
        """What Lucene's `TopDocs` lists that are sorted by score first, and the field of each document."""
        told: str = self._found.apply(top_docs)
        hits = told.split(_BETWEEN) if told else []
        # A text may look like a hit, so that each is looked for at its offset.
        return _ranking(filter(None, map(_HIT.match, hits))), [hit[hit.index("{") :] for hit in hits]


def document_frequencies(reader: Any, field: str, terms: Sequence[str]) -> list[int]:
    """How many documents of an `IndexReader` have each of the terms in a field."""
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
    """Java's object that stands for a class, an array's by a name such as `[Ljava.lang.Object;`."""
    return java_class("java.lang.Class").forName(name)


def as_interface(name: str, handle: Any) -> Any:
    """A method handle as an object of an interface with one method."""
    proxies = java_class("java.lang.invoke.MethodHandleProxies")
    return cast(name, proxies.asInterfaceInstance(java_type(name), handle))


def _ranking(hits: Iterable[re.Match[str]]) -> Ranking:
    numbers_and_scores = [hit.groups() for hit in hits]
    scores = array("f", [float(score) for _, score in numbers_and_scores])
    return [(int(document), score) for (document, _), score in zip(numbers_and_scores, scores, strict=True)]


def _value_of(reader: Any, field: str) -> Any:
    """From a document's number to what it has in a field of doc values, which every document has.

    Doc values are read forward only, so each document takes new ones: a microsecond for a segment.
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
    """From a `ScoreDoc` to what it says of itself, and then what is read of its document."""
    hit, string = java_type("org.apache.lucene.search.ScoreDoc"), java_type("java.lang.String")
    number = _lookup().findGetter(hit, "doc", java_class("java.lang.Integer").TYPE)
    told = _lookup().findVirtual(hit, "toString", _method(string))
    concatenate = _lookup().findVirtual(string, "concat", _method(string, string))
    both = _handles().filterArguments(concatenate, 0, told, _handles().filterArguments(read, 0, number))
    return _handles().permuteArguments(both, _method(string, hit), 0, 0)


def _for_each_hit(handle: Any) -> Any:
    """From `TopDocs` to what the handle makes of each hit."""
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
def _teller() -> Any:
    """From `TopDocs` to what `Arrays.toString` says of its hits."""
    hits = java_type("[Lorg.apache.lucene.search.ScoreDoc;")
    of_top_docs = _lookup().findGetter(java_type("org.apache.lucene.search.TopDocs"), "scoreDocs", hits)
    string = java_type("java.lang.String")
    told = _lookup().findStatic(
        java_type("java.util.Arrays"), "toString", _method(string, java_type("[Ljava.lang.Object;"))
    )
    return as_interface(_FUNCTION, _handles().filterReturnValue(of_top_docs, told.asType(_method(string, hits))))


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
