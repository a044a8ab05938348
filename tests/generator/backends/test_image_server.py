"""The service with an image server as its backend, against a server that answers as each test says."""

import base64
import contextlib
import io
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from PIL import Image
from pydantic import SecretStr

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_common.access.caller import Caller, acting_as
from reimagen_common.access.rights import Right
from reimagen_common.errors import Overloaded, Unavailable
from reimagen_generator.backends.image_server import ImageServerBackend
from reimagen_generator.backends.openai_images import Upstream
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.engine.work import Priority
from reimagen_generator.generation.request import GenerationRequest
from reimagen_generator.server import GeneratorServer
from reimagen_generator.settings import Settings
from tests.image_server import SIZE, Handler, Server, answer, images, picture, serving, wait_for_end
from tests.waiting import SECONDS, wait_until, waiting_requests

KEY = "sk-very-secret"
URL = "/v1/images/generations"
ALONE: dict[str, Any] = {"prompt": "a bench", "retrieval": {"k": 0}}


@dataclass(frozen=True)
class Served:
    """A service with a REST and a gRPC client, and its image server."""

    rest: httpx.Client
    generation: GenerationStub
    upstream: Server


@contextlib.contextmanager
def serve(upstream: Server, jobs: Path) -> Iterator[Served]:
    # Nothing listens at the retriever's address: tests/integration has one.
    settings = Settings(retriever="127.0.0.1:1", grpc="127.0.0.1:0", http="127.0.0.1:0", stop_seconds=0, jobs=jobs)
    server = Upstream(f"http://127.0.0.1:{upstream.server_port}/v1", "m", SecretStr(KEY), concurrency=1, backoff=0)
    service = GeneratorServer(ImageServerBackend(server, name="m", sizes=(16, SIZE), maximum_k=3), settings)
    service.start()
    try:
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{service.http_port}", timeout=SECONDS) as rest,
            grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel,
        ):
            yield Served(rest, GenerationStub(channel), upstream)
    finally:
        service.stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving() as upstream, serve(upstream, tmp_path_factory.mktemp("jobs")) as service:
        yield service


@pytest.fixture
def served(service: Served) -> Served:
    service.upstream.answers.clear()
    service.upstream.requests.clear()
    service.upstream.arrived.clear()
    service.upstream.gone.clear()
    return service


def test_the_model_says_what_it_supports(served: Served) -> None:
    (model,) = served.rest.get("/v1/models").json()["data"]
    assert (model["id"], model["sizes"], model["default_k"], model["maximum_k"]) == ("m", ["16x16", "32x32"], 2, 3)
    fields = ["guidance", "negative_prompt", "partial_images", "quality", "sampler", "seed", "stages", "steps"]
    assert model["unsupported"] == fields
    schemas = served.rest.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["ImagesRequest"]["properties"]["partial_images"]["enum"] == [0, None]
    assert schemas["JobRequest"]["properties"]["seed"]["enum"] == [None]
    described = served.generation.Describe(pb.DescribeCascadeRequest())
    assert (described.cascade, described.maximum_k, list(described.stages)) == ("m", 3, [])
    assert set(described.unsupported) == {*fields, "previews"} - {"partial_images"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"seed": 7}, "seed"),
        ({"guidance": {"text_weight": 2}}, "guidance"),
        ({"quality": "high"}, "quality"),
        ({"negative_prompt": "a fox"}, "negative_prompt"),
        ({"steps": 4}, "steps"),
        ({"references": [{"pair_id": "kea", "weight": 2}]}, "references.0.weight"),
        ({"partial_images": 1, "stream": True}, "partial_images"),
        ({"size": "64x64"}, "size"),
        ({"retrieval": {"k": 4}}, "retrieval.k"),
        ({"model": "other"}, "model"),
    ],
)
def test_what_the_model_does_not_support_is_refused_by_name(served: Served, fields: dict[str, Any], field: str) -> None:
    response = served.rest.post(URL, json=ALONE | fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field
    assert response.json()["error"]["message"].startswith(f"{field}: must ")
    if field != "model" and "stream" not in fields:
        job = served.rest.post("/v1/jobs", json=ALONE | fields)
        assert (job.status_code, job.json()["error"]["param"]) == (400, field)
    assert served.upstream.requests == []


def test_grpc_names_its_own_field_and_has_no_seed(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        list(served.generation.Generate(pb.GenerateRequest(prompt="a bench", previews=1)))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value.details()).startswith("previews: must be unset")
    served.upstream.answers = [answer(200, images(picture()))]
    request = pb.GenerateRequest(prompt="a bench", retrieval=pb.GenerateRequest.Retrieval(k=0))
    accepted, _, image = served.generation.Generate(request)
    assert not accepted.accepted.HasField("seed")
    assert not image.image.HasField("seed")


@pytest.mark.parametrize("kind", ["TIFF", "AVIF", "GIF", "JPEG"])
def test_a_reference_of_any_format_is_sent_as_png(served: Served, kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 24), (200, 30, 10)).save(file, kind)
    served.upstream.answers = [answer(200, images(picture()))]
    reference = {"image": base64.b64encode(file.getvalue()).decode(), "caption": "a red panda"}
    response = served.rest.post(URL, json={"prompt": "a bench", "references": [reference]})
    assert response.status_code == 200, response.text
    ((path, _, body),) = served.upstream.requests
    assert path == "/v1/images/edits"
    assert b"a bench\nImage 1 shows a red panda." in body
    sent = body[body.index(b"\x89PNG") :]
    with Image.open(io.BytesIO(sent)) as image:
        assert image.size == (40, 24)


def test_a_stream_has_neighbors_and_finished_images(served: Served) -> None:
    served.upstream.answers = [answer(200, images(picture(), picture()))]
    response = served.rest.post(URL, json=ALONE | {"n": 2, "stream": True})
    names = [line.removeprefix("event: ") for line in response.text.splitlines() if line.startswith("event: ")]
    assert names == ["image_generation.neighbors", *["image_generation.completed"] * 2]
    assert '"seed"' not in response.text


@pytest.mark.parametrize(
    ("replies", "status", "message"),
    [
        ([answer(400, b"no benches")], 400, "the image server refuses the request: no benches"),
        ([answer(401, KEY.encode())], 500, "does not accept the service's API key"),
        ([answer(200, b"{")], 500, "not the JSON of images"),
        ([answer(500), answer(500)], 503, "fails with status 500"),
        ([answer(429, retry_after="17")], 429, "the image server is overloaded"),
    ],
)
def test_a_fault_of_the_server_reaches_the_client(
    served: Served, replies: list[Callable[[Handler], None]], status: int, message: str
) -> None:
    served.upstream.answers = list(replies)
    response = served.rest.post(URL, json=ALONE)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]
    assert KEY not in response.text
    if status == 429:
        assert response.headers["retry-after"] == "17"


def test_a_job_waits_for_an_overloaded_server(served: Served) -> None:
    served.upstream.answers = [answer(429, retry_after="0"), answer(200, images(picture()))]
    job = served.rest.post("/v1/jobs", json=ALONE).json()
    assert "seed" not in job["request"]
    served.rest.get(f"/v1/jobs/{job['id']}/events")  # until its end
    job = served.rest.get(f"/v1/jobs/{job['id']}").json()
    assert (job["status"], len(served.upstream.requests)) == ("completed", 2)
    assert "seed" not in job["data"][0]


def test_a_cancelled_job_hangs_up_and_more_requests_are_refused_meanwhile(served: Served) -> None:
    served.upstream.answers = [wait_for_end]
    job = served.rest.post("/v1/jobs", json=ALONE).json()
    assert served.upstream.arrived.wait(SECONDS)
    refused = served.rest.post(URL, json=ALONE)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert served.rest.delete(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled"
    assert served.upstream.gone.wait(SECONDS)
    served.upstream.answers = [answer(200, images(picture()))]
    wait_until(lambda: served.rest.post(URL, json=ALONE).status_code == 200)


def test_a_job_that_waits_for_an_overloaded_server_can_be_cancelled(served: Served) -> None:
    served.upstream.answers = [answer(429, retry_after="3600")]
    job = served.rest.post("/v1/jobs", json=ALONE).json()
    assert served.upstream.arrived.wait(SECONDS)
    assert served.rest.delete(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled"
    served.upstream.answers = [answer(200, images(picture()))]
    wait_until(lambda: served.rest.post(URL, json=ALONE).status_code == 200)


def test_a_key_holds_half_of_the_slots_at_most() -> None:
    backend = ImageServerBackend(Upstream("http://127.0.0.1:1/v1", concurrency=4), name="m", sizes=(16,), maximum_k=1)
    request = GenerationRequest(prompt="a bench")

    with contextlib.ExitStack() as admitted:

        def admit(caller: str) -> None:
            handle = RequestHandle(timeout=SECONDS)
            with acting_as(Caller(caller, frozenset(Right))):
                admitted.enter_context(
                    backend.admit(handle, request, size=16, neighbors=0, priority=Priority.INTERACTIVE)
                )

        with pytest.raises(Unavailable, match="starting"):
            admit("a")
        backend.start()
        admit("a")
        admit("a")
        with pytest.raises(Overloaded, match="2 requests of this API key"):
            admit("a")
        admit("b")
        admit("b")
        with pytest.raises(Overloaded, match="4 requests are being drawn"):
            backend.refuse_if_full()
    backend.stop(0)


def test_a_job_waits_for_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ImageServerBackend(Upstream("http://127.0.0.1:1/v1", concurrency=1), name="m", sizes=(16,), maximum_k=1)
    backend.start()

    def admit(handle: RequestHandle, priority: Priority) -> contextlib.AbstractContextManager[object]:
        return backend.admit(handle, GenerationRequest(prompt="a bench"), size=16, neighbors=0, priority=priority)

    def remaining(handle: RequestHandle) -> float:
        with admit(handle, Priority.BACKGROUND):
            return handle.remaining()

    with contextlib.ExitStack() as holding, ThreadPoolExecutor(3) as threads:
        holding.enter_context(admit(RequestHandle(timeout=SECONDS), Priority.INTERACTIVE))
        handles = [RequestHandle(timeout=SECONDS) for _ in range(3)]
        cancelled, first, second = (threads.submit(remaining, handle) for handle in handles)
        wait_until(lambda: waiting_requests() == 3)
        handles[0].cancel()
        with pytest.raises(Cancelled):
            cancelled.result(SECONDS)
        # The deadline counts from the admission.
        monkeypatch.setattr(handles[1], "_deadline", 0.0)
        holding.close()
        assert first.result(SECONDS) > 0
        assert second.result(SECONDS) > 0
        holding.enter_context(admit(RequestHandle(timeout=SECONDS), Priority.INTERACTIVE))
        late = threads.submit(remaining, RequestHandle(timeout=SECONDS))
        wait_until(lambda: waiting_requests() == 1)
        closing = threads.submit(backend.stop, SECONDS)
        with pytest.raises(Unavailable, match="has stopped"):
            late.result(SECONDS)
        holding.close()
        closing.result(SECONDS)


def test_the_service_draws_without_jax() -> None:
    """In a process of its own, since this one has imported it."""
    with serving() as upstream:
        upstream.answers = [answer(200, images(picture()))]
        script = f"""
            import sys, httpx
            from reimagen_generator import server
            from reimagen_generator.settings import Settings
            settings = Settings(
                images_url="http://127.0.0.1:{upstream.server_port}/v1", images_sizes=({SIZE},),
                http="127.0.0.1:0", grpc="127.0.0.1:0", signing=False,
            )
            service = server.GeneratorServer(server._open_image_server(settings, settings.images_url), settings)
            service.start()
            drawn = httpx.post(f"http://127.0.0.1:{{service.http_port}}{URL}", json={ALONE}, timeout={SECONDS})
            service.stop()
            print(drawn.status_code, sorted({{"jax", "flax"}} & sys.modules.keys()))
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "200 []\n"


def test_a_stop_ends_running_requests(tmp_path: Path) -> None:
    answered = []
    with serving() as upstream:
        upstream.answers = [wait_for_end]
        with serve(upstream, tmp_path) as service:
            url = service.rest.base_url.join(URL)
            thread = threading.Thread(target=lambda: answered.append(httpx.post(url, json=ALONE, timeout=SECONDS)))
            thread.start()
            assert upstream.arrived.wait(SECONDS)
        thread.join(SECONDS)
        assert upstream.gone.wait(SECONDS)
    assert answered[0].status_code == 503
    assert "has stopped" in answered[0].text
