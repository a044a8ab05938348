"""Fields of forms become the values that they have in JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reimagen_common.errors import InvalidArgument
from reimagen_generator.api.http.forms import field_values, parse_fields
from reimagen_generator.api.http.schema import ImagesRequest

TEXT = st.text(max_size=20)
FIELDS = st.sampled_from([*ImagesRequest.model_json_schema()["properties"], "colour"])
KEYS = st.sampled_from(["k", "method", "licenses", "strategy", "", "depth"])
NAMES = st.builds(lambda name, keys: name + "".join(f"[{key}]" for key in keys), FIELDS, st.lists(KEYS, max_size=3))


@pytest.mark.parametrize(
    ("items", "values"),
    [
        ([("prompt", "7"), ("n", "2")], {"prompt": "7", "n": 2}),
        ([("size", "64x64"), ("seed", "007")], {"size": "64x64", "seed": "007"}),
        ([("stream", "true")], {"stream": True}),
        ([("stream", "False")], {"stream": False}),
        ([("retrieval", '{"k": 2}')], {"retrieval": {"k": 2}}),
        ([("retrieval[k]", "2"), ("retrieval[method]", "bm25")], {"retrieval": {"k": 2, "method": "bm25"}}),
        ([("retrieval[licenses][]", "MIT"), ("retrieval[licenses][]", "")], {"retrieval": {"licenses": ["MIT", ""]}}),
        ([("retrieval[licenses]", '["MIT", "7"]')], {"retrieval": {"licenses": ["MIT", "7"]}}),
        ([("seed", ""), ("model", ""), ("prompt", "")], {"seed": None, "model": None, "prompt": ""}),
        ([("colour", "1"), ("a[", "x")], {"colour": "1", "a[": "x"}),
        ([("seed", "NaN")], {"seed": "NaN"}),
    ],
)
def test_texts_become_what_they_are_in_json(items: list[tuple[str, str]], values: dict[str, Any]) -> None:
    assert field_values(items, ImagesRequest) == values


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([("n", "1"), ("n", "1")], "n"),
        ([("retrieval[k]", "1"), ("retrieval[k]", "1")], "retrieval.k"),
        ([("retrieval", '{"k": 1}'), ("retrieval[k]", "1")], "retrieval"),
        ([("retrieval[k]", "1"), ("retrieval", '{"k": 1}')], "retrieval"),
        ([("prompt", "x"), ("retrieval[depth]", "1")], "retrieval.depth"),
        ([("prompt", "x"), ("n", "one")], "n"),
        ([("prompt", "x"), ("n[x]", "1")], "n"),
        ([("prompt", "x"), ("retrieval", "[" * 100_000)], "retrieval"),
    ],
)
def test_a_bad_field_is_named(items: list[tuple[str, str]], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_fields(items, ImagesRequest)
    assert refused.value.field == field


def test_null_in_a_query_string_is_no_number() -> None:
    assert field_values([("n", "null")], ImagesRequest) == {"n": None}
    assert field_values([("n", "null")], ImagesRequest, empty_is_null=False) == {"n": "null"}


@given(items=st.lists(st.tuples(NAMES | TEXT, TEXT), max_size=6))
def test_any_form_is_read_or_refused_by_field(items: list[tuple[str, str]]) -> None:
    refused = None
    try:
        parse_fields([("prompt", "x"), *items], ImagesRequest)
    except InvalidArgument as error:
        refused = error
    assert refused is None or refused.field is not None


WHOLE = st.fixed_dictionaries(
    {},
    optional={
        "n": st.integers(1, 10),
        "seed": st.integers(0, 2**32 - 1),
        "stream": st.booleans(),
        "user": st.text(min_size=1, max_size=10),
        "quality": st.sampled_from(["low", "hd"]),
        "retrieval": st.fixed_dictionaries(
            {}, optional={"k": st.integers(0, 16), "licenses": st.lists(TEXT, min_size=2, max_size=3)}
        ),
        "guidance": st.fixed_dictionaries({}, optional={"text_weight": st.floats(0, 100)}),
    },
)


def in_brackets(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in in_brackets(f"{name}[{key}]", inner)]
    if isinstance(value, list):
        return [pair for inner in value for pair in in_brackets(f"{name}[]", inner)]
    return [(name, value if isinstance(value, str) else json.dumps(value))]


@given(body=WHOLE)
def test_a_form_means_the_same_as_json(body: dict[str, Any]) -> None:
    expected = ImagesRequest.model_validate({"prompt": "x", **body})
    in_parts = [pair for name, value in body.items() for pair in in_brackets(name, value)]
    as_json = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in body.items()]
    for items in (in_parts, as_json):
        assert parse_fields([("prompt", "x"), *items], ImagesRequest) == expected
