"""A generator's client at a retriever with keys and mutual TLS."""

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme
from PIL import Image

from reimagen_common.access.key_file import add_key, revoke_key
from reimagen_common.access.keys import make_key
from reimagen_common.access.rights import Right
from reimagen_common.errors import ReimagenError, Unavailable
from reimagen_common.grpc_client import Credentials
from reimagen_generator.generation.retriever_client import RetrieverClient
from reimagen_generator.settings import Settings as GeneratorSettings
from reimagen_retriever.ingest.build import build
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.server import RetrieverServer
from reimagen_retriever.settings import Settings as RetrieverSettings

SECONDS = 60


@dataclass(frozen=True)
class Secured:
    service: RetrieverServer
    keys: Path
    ca: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("source")
    Image.new("RGB", (8, 8), "red").save(folder / "fox.png")
    (folder / "fox.txt").write_text("a red fox")
    base = tmp_path_factory.mktemp("base") / "kb"
    build(open_source(folder), base)
    files = tmp_path_factory.mktemp("files")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(files / "ca.pem"))
    for name in ("127.0.0.1", "client"):
        issued = ca.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(files / f"{name}.pem"))
    add_key(files / "keys.json", make_key("first", frozenset({Right.READ}))[1])
    settings = RetrieverSettings(
        knowledge_base=str(base),
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        keys=files / "keys.json",
        tls_certificate=files / "127.0.0.1.pem",
        tls_key=files / "127.0.0.1.pem",
        tls_client_ca=files / "ca.pem",
    )
    service = RetrieverServer(settings)
    service.start()
    try:
        yield Secured(service, files / "keys.json", files / "ca.pem", files / "client.pem", files / "client.pem")
    finally:
        service.stop(0)


def client(secured: Secured, key: str | None, *, certificate: bool = True) -> contextlib.closing[RetrieverClient]:
    settings = GeneratorSettings.model_validate(
        {
            "retriever": secured.service.addresses["grpc"],
            "retriever_api_key": key,
            "retriever_ca": secured.ca,
            "retriever_certificate": secured.certificate if certificate else None,
            "retriever_key": secured.key if certificate else None,
        }
    )
    credentials = settings.retriever_credentials()
    assert key is None or key not in f"{settings!r}"
    return contextlib.closing(RetrieverClient(settings.retriever, credentials))


def search(retriever: RetrieverClient) -> list[str]:
    found = retriever.search("a fox", k=1, method="bm25", remaining=SECONDS)
    return [neighbor.id for neighbor in found.neighbors]


def test_a_key_and_a_certificate_let_the_generator_in(secured: Secured) -> None:
    key, stored = make_key("generator", frozenset({Right.READ}))
    add_key(secured.keys, stored)
    with client(secured, key) as retriever:
        assert search(retriever) == ["fox"]
        assert retriever.pair_image("fox")[1] == "image/png"
        assert retriever.degraded_reason() is None
        revoke_key(secured.keys, stored.id)
        # The connection is the same.
        with pytest.raises(ReimagenError, match="set retriever_api_key to a key with the right 'read'") as caught:
            search(retriever)
    # The client of the generator is not at fault, and its key is not the one that is refused.
    assert type(caught.value) is ReimagenError
    assert key not in caught.value.message


def test_without_a_key_or_a_right_the_operator_is_told(secured: Secured) -> None:
    key, stored = make_key("writer", frozenset({Right.WRITE}))
    add_key(secured.keys, stored)
    for given, reason in ((None, "requires an API key"), (key, "lacks the right 'read'")):
        with client(secured, given) as retriever, pytest.raises(ReimagenError, match=reason):
            search(retriever)


def test_without_a_certificate_there_is_no_connection(secured: Secured) -> None:
    with client(secured, None, certificate=False) as retriever, pytest.raises(Unavailable):
        retriever.search("a fox", k=1, method="bm25", remaining=4)
    with contextlib.closing(RetrieverClient(secured.service.addresses["grpc"], Credentials())) as retriever:
        with pytest.raises(Unavailable):
            retriever.search("a fox", k=1, method="bm25", remaining=4)
        assert "does not answer" in str(retriever.degraded_reason())


def test_links_begin_with_https(secured: Secured) -> None:
    key, stored = make_key("reader", frozenset({Right.READ}))
    add_key(secured.keys, stored)
    context = ssl.create_default_context(cafile=secured.ca)
    context.load_cert_chain(secured.certificate)
    address = secured.service.addresses["http"]
    with httpx.Client(verify=context, headers={"Authorization": f"Bearer {key}"}, timeout=SECONDS) as rest:
        found = rest.get(f"https://{address}/v1/search", params={"query": "a fox"}).json()["neighbors"][0]
        assert found["url"] == f"https://{address}/v1/pairs/fox/image"
        assert rest.get(found["url"]).headers["content-type"] == "image/png"
