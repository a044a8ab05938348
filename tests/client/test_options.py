"""The options of requests, the connection, and image files."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1 import retrieval_pb2
from reimagen_client import InvalidRequest, Reference, ServerError
from reimagen_client.events import LineSplitter, SseParser
from reimagen_client.grpc_messages import request_message
from reimagen_client.options import body_of
from reimagen_client.provenance import inspect
from reimagen_client.settings import Connection
from reimagen_generator.config.cascade import SamplerKind
from reimagen_generator.generation.messages import read_request
from reimagen_generator.generation.request import parse_request
from tests.client.conftest import png


def test_unset_options_are_not_sent() -> None:
    assert body_of("a fox", {"n": None, "size": None, "references": [], "retrieval": None}) == {"prompt": "a fox"}


def test_options_become_the_fields_of_the_api() -> None:
    options = {
        "size": 64,
        "k": 0,
        "retrieval": {"k": 3, "method": "hybrid"},
        "references": [Reference(id="file-1"), Reference(pair_id="kea", weight=0)],
        "negative_prompt": "snow",
        "steps": 5,
    }
    assert body_of("a fox", options) == {
        "prompt": "a fox",
        "size": "64x64",
        "retrieval": {"k": 0, "method": "hybrid"},
        "references": [{"id": "file-1", "caption": "a fox"}, {"pair_id": "kea", "weight": 0}],
        "negative_prompt": "snow",
        "steps": 5,
    }


FULL: dict[str, Any] = {
    "n": 2,
    "size": "64x64",
    "seed": 0,
    "k": 0,
    "retrieval": {
        "method": "hybrid",
        "per_entity": False,
        "relevance": "phrase",
        "minimum_score": 0.5,
        "explain": True,
        "licenses": ["MIT"],
        "sources": ["https://example.org/"],
        "minimum_side": 8,
        "safe_only": True,
        "exclude_ids": ["a", "b"],
    },
    "guidance": {"strategy": "weighted", "text_weight": 2.0, "neighbor_weight": 0.5},
    "quality": "high",
    "output_format": "webp",
    "output_compression": 0,
    "user": "me",
}


def test_the_services_read_the_same_request_over_rest_and_grpc() -> None:
    options = FULL | {"references": [Reference(image=png((9, 9, 9)), caption="Kiki")]}
    assert read_request(request_message("a fox", options, 1)) == parse_request(
        body_of("a fox", options) | {"previews": 1}
    )
    assert read_request(request_message("a fox", {})) == parse_request(body_of("a fox", {}))


@pytest.mark.parametrize("sampler", [kind.value for kind in SamplerKind])
def test_the_services_read_the_same_sampling_over_rest_and_grpc(sampler: str) -> None:
    options = {
        "steps": 5,
        "sampler": sampler,
        "negative_prompt": "snow",
        "stages": [
            {"size": 16, "sampler": sampler, "guidance": {"strategy": "joint", "text_weight": 3.0}},
            {"size": 32, "steps": 7},
        ],
        "references": [Reference(pair_id="kea", weight=0.5)],
    }
    assert read_request(request_message("a fox", options)) == parse_request(body_of("a fox", options))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"model": "other"}, "model"),
        ({"size": "wide"}, "size"),
        ({"n": -1}, "n"),
        ({"quality": "best"}, "quality"),
        ({"sampler": "euler"}, "sampler"),
        ({"retrieval": {"method": "magic"}}, "method"),
        ({"retrieval": {"depth": 1}}, "depth"),
        ({"stages": [{"size": 16, "sampler": "euler"}]}, "sampler"),
        ({"stages": [{"size": 16, "depth": 1}]}, "depth"),
    ],
)
def test_what_grpc_cannot_send_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        request_message("a fox", options)
    assert raised.value.field == field


def test_unknown_options_are_type_errors() -> None:
    for build in (body_of, request_message):
        with pytest.raises(TypeError, match="unknown options: sizes"):
            build("a fox", {"sizes": 64})


@pytest.mark.parametrize("fields", [{}, {"id": "a", "pair_id": "b"}, {"image": b"", "id": "a"}])
def test_a_reference_has_one_image(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="exactly one of image, id and pair_id"):
        Reference(**fields)


@pytest.mark.parametrize(
    ("environment", "url", "key"),
    [
        ({}, "http://127.0.0.1:8000/v1", None),
        ({"REIMAGEN_BASE_URL": "https://a.example"}, "https://a.example/v1", None),
        ({"REIMAGEN_BASE_URL": "https://a.example/v1/"}, "https://a.example/v1", None),
        ({"REIMAGEN_BASE_URL": "https://a.example/x/v1"}, "https://a.example/x/v1", None),
        ({"OPENAI_BASE_URL": "https://b.example/v1", "OPENAI_API_KEY": "b"}, "https://b.example/v1", "b"),
        # OpenAI's key is for OpenAI's address alone.
        ({"OPENAI_API_KEY": "b"}, "http://127.0.0.1:8000/v1", None),
        ({"REIMAGEN_BASE_URL": "https://a.example", "OPENAI_API_KEY": "b"}, "https://a.example/v1", None),
        ({"OPENAI_BASE_URL": "https://b.example/v1", "REIMAGEN_API_KEY": " a\n"}, "https://b.example/v1", "a"),
    ],
)
def test_the_connection_comes_from_the_environment(environment: dict[str, str], url: str, key: str | None) -> None:
    connection = Connection.find(environment=environment)
    assert (connection.base_url, connection.api_key) == (url, key)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://a.example", "http://", "https://me:secret@a.example", "http://a:b"]
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^base_url: ") as raised:
        Connection.find(url, environment={})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["sec ret", "secrét", "secret\nX: y", "secret\x00"])
def test_a_wrong_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^api_key: ") as raised:
        Connection.find(api_key=key, environment={})
    assert "sec" not in str(raised.value)
    assert "secret" not in repr(Connection("https://a.example", "secret"))


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.text(max_size=4), st.text() | st.integers(), min_size=1, max_size=3),
            st.none() | st.from_regex(r"[1-9][0-9]{0,8}", fullmatch=True),
        ),
        max_size=5,
    )
)
def test_the_parser_returns_the_events_that_were_sent(events: list[tuple[dict[str, Any], str | None]]) -> None:
    parser, found, last = SseParser(), [], ""
    for data, key in events:
        last = key or last
        lines = [": comment", "event: x", *([] if key is None else [f"id: {key}"]), f"data:{json.dumps(data)}", "", ""]
        found += [event for line in lines if (event := parser.feed(line)) is not None]
    assert (found, parser.last_id) == ([data for data, _ in events], last)


LINES = st.lists(st.text(alphabet=st.characters(exclude_characters="\n\r")))


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.integers(1, 5))
def test_text_is_split_only_at_the_ends_of_lines(lines: list[str], end: str, size: int) -> None:
    splitter, text = LineSplitter(), "".join(line + end for line in lines) + "cut off"
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    assert [line for part in parts for line in splitter.feed(part)] == lines


@given(LINES)
def test_the_parser_raises_nothing_but_its_error(lines: list[str]) -> None:
    parser = SseParser()
    for line in [*lines, ""]:
        with contextlib.suppress(ServerError):
            assert isinstance(parser.feed(line), dict | None)


def test_a_file_without_provenance_is_refused(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("none.png", "other.png", "text.png", "none.jpg")}
    files["none.png"].write_bytes(png((1, 2, 3)))
    Pillow.new("RGB", (8, 8)).save(files["none.jpg"])
    files["text.png"].write_text("no image")
    info = PngInfo()
    info.add_itxt("reimagen", '{"prompt": 1}')
    Pillow.new("RGB", (8, 8)).save(files["other.png"], pnginfo=info)
    messages = {}
    for name, file in files.items():
        with pytest.raises(InvalidRequest) as raised:
            inspect(file)
        messages[name] = raised.value.message.removeprefix(f"{file} ")
    assert messages["none.png"] == messages["none.jpg"] == "has no provenance; it must be an image that Re-Imagen drew"
    assert messages["other.png"] == "has a text that is no provenance"
    assert messages["text.png"].startswith("cannot be read as a PNG, JPEG or WebP image")
    with pytest.raises(InvalidRequest, match="No such file"):
        inspect(tmp_path / "missing.png")


def test_the_messages_of_grpc_name_the_enumerations() -> None:
    message = request_message("a fox", {"retrieval": {"method": "dense"}, "output_format": "jpeg", "quality": "auto"})
    assert message.retrieval.method == retrieval_pb2.METHOD_DENSE
    assert message.output_format == pb.OUTPUT_FORMAT_JPEG
    assert message.quality == pb.QUALITY_UNSPECIFIED
