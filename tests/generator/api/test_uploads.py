"""Images that are uploaded once and used by their ids."""

import base64
import io
import json
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from reimagen_common.errors import InvalidArgument, NotFound, Overloaded
from reimagen_generator.generation.request import GenerationRequest
from reimagen_generator.generation.request_parts import Reference
from reimagen_generator.generation.uploads import UploadStore

URL = "/v1/files"
GENERATIONS = "/v1/images/generations"


def png(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, "PNG")
    return buffer.getvalue()


def upload(served: Any, content: bytes) -> str:
    response = served.rest.post(URL, files={"file": ("a.png", content)}, data={"purpose": "vision"})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def test_an_id_stands_for_the_image(served: Any) -> None:
    body = {"prompt": "a square", "seed": 7, "size": "16x16"}
    by_id = [{"id": upload(served, png()), "caption": "a red square"}]
    direct = [{"image": base64.b64encode(png()).decode(), "caption": "a red square"}]
    expected = served.rest.post(GENERATIONS, json=body | {"references": direct}).json()["data"]
    assert served.rest.post(GENERATIONS, json=body | {"references": by_id}).json()["data"] == expected
    form = {"prompt": "a square", "seed": "7", "size": "16x16", "references": json.dumps(by_id)}
    edited = served.rest.post("/v1/images/edits", data=form, files={"image": png("blue")})
    assert [neighbor["caption"] for neighbor in edited.json()["neighbors"]] == ["a square", "a red square"]
    job = served.rest.post("/v1/jobs", json=body | {"references": by_id}).json()
    assert "event: job.completed" in served.rest.get(f"/v1/jobs/{job['id']}/events").text
    image = served.rest.get(f"/v1/jobs/{job['id']}/images/0").content
    assert image == base64.b64decode(expected[0]["b64_json"])


def test_openais_client_manages_files(served: Any) -> None:
    with openai.OpenAI(base_url=f"{served.rest.base_url}/v1", api_key="any", max_retries=0) as client:
        file = client.files.create(file=("fox.png", png()), purpose="vision")
        assert (file.filename, file.bytes, file.purpose, file.object) == ("fox.png", len(png()), "vision", "file")
        assert client.files.content(file.id).read() == png()
        assert client.files.list().data[0].id == file.id
        assert client.files.retrieve(file.id) == file
        assert client.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file.id)


def test_bad_input_is_named(served: Any) -> None:
    def post(files: Any, **fields: Any) -> httpx.Response:
        answer: httpx.Response = served.rest.post(URL, files=files, data=fields)
        return answer

    image = ("a.png", png())
    for response, field in (
        (post({"file": ("a.txt", b"no image")}, purpose="vision"), "file"),
        (post({"file": ("a.png", b"")}, purpose="vision"), "file"),
        (post({"file": (None, "text")}, purpose="vision"), "file"),
        (post({"file": image}), "purpose"),
        (post({"file": image}, purpose="batch"), "purpose"),
        (post({"file": image}, purpose="vision", colour="red"), "colour"),
        (post([("file", image)] * 2, purpose="vision"), "body"),
    ):
        assert (response.status_code, response.json()["field"]) == (400, field), response.text


@pytest.mark.parametrize(
    ("reference", "field"),
    [
        ({"id": "file-none", "caption": "x"}, "references.0.id"),
        ({"id": "file-none", "image": base64.b64encode(png()).decode(), "caption": "x"}, "references.0.image"),
        ({"caption": "x"}, "references.0.image"),
        ({"id": "x" * 65, "caption": "x"}, "references.0.id"),
    ],
)
def test_a_bad_reference_is_named(served: Any, reference: dict[str, str], field: str) -> None:
    response = served.rest.post(GENERATIONS, json={"prompt": "x", "references": [reference]})
    assert (response.status_code, response.json()["field"]) == (400, field)


def test_a_pair_needs_the_retriever(served: Any) -> None:
    body = {"prompt": "x", "size": "16x16", "references": [{"pair_id": "x"}]}
    named, searched = (served.rest.post(GENERATIONS, json=each) for each in (body, {"prompt": "x", "size": "16x16"}))
    assert (named.status_code, named.json()["detail"]) == (503, searched.json()["detail"])


def test_a_form_names_a_bad_id(served: Any) -> None:
    form = {"prompt": "x", "references": '[{"id": "file-none", "caption": "x"}]'}
    response = served.rest.post("/v1/images/edits", data=form, files={"image": png()})
    assert (response.status_code, response.json()["field"]) == (400, "references.0.id")


def test_uploads_belong_to_their_owner() -> None:
    store = UploadStore(seconds=60, maximum_bytes=10_000)
    mine = store.add(png(), name="a.png", purpose="vision", owner="one")
    assert store.list(owner="other") == []
    request = GenerationRequest(prompt="x", references=(Reference(id=mine.id, caption="y"),))
    assert store.resolve(request, owner="one").references[0].image == png()
    heavy = GenerationRequest(
        prompt="x", references=(Reference(id=mine.id, caption="y", weight=3), Reference(pair_id="p"))
    )
    assert store.resolve(heavy, owner="one").references == (
        Reference(image=png(), caption="y", weight=3),
        Reference(pair_id="p"),
    )
    for read in (store.get, store.delete):
        with pytest.raises(NotFound):
            read(mine.id, owner="other")
    with pytest.raises(InvalidArgument, match=r"^references\.0\.id: "):
        store.resolve(request, owner="other")


def test_uploads_are_limited_and_expire() -> None:
    store = UploadStore(seconds=60, maximum_bytes=len(png()))
    kept = store.add(png(), name="", purpose="vision", owner="")
    for refuse in (store.admit, lambda: store.add(png(), name="", purpose="vision", owner="")):
        with pytest.raises(Overloaded):
            refuse()
    store.delete(kept.id, owner="")
    store.admit()
    store = UploadStore(seconds=0, maximum_bytes=len(png()))
    expired = store.add(png(), name="", purpose="vision", owner="")
    with pytest.raises(NotFound):
        store.get(expired.id, owner="")
    store.admit()
