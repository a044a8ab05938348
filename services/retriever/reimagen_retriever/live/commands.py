"""The commands `reimagen-retriever add` and `remove`, on a folder or through a service that serves it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated

import grpc
import typer

from reimagen.v1 import retrieval_pb2 as pb
from reimagen.v1.retrieval_pb2_grpc import RetrievalStub
from reimagen_common.addresses import read_address
from reimagen_common.command_line import read_settings, report_errors
from reimagen_common.errors import ReimagenError, from_rpc_error
from reimagen_retriever.knowledge_base.checks import refuse_bad_id
from reimagen_retriever.knowledge_base.folder_lock import Holder
from reimagen_retriever.knowledge_base.pair import Rejected
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.live.groups import Rejections, checked_groups
from reimagen_retriever.live.vectors import refuse_without_encoder, with_vectors
from reimagen_retriever.live.writer import LiveWriter, Outcome, Put, Remove
from reimagen_retriever.served_base import ServedBase
from reimagen_retriever.settings import ClientSettings

KnowledgeBaseFolder = Annotated[
    Path,
    typer.Argument(metavar="KB_DIR", help="Folder of the knowledge base; with --address, the service's base is used."),
]
Address = Annotated[
    str,
    typer.Option(metavar="HOST:PORT", help="gRPC address of a service that serves KB_DIR and makes the changes."),
]


def add(
    knowledge_base: KnowledgeBaseFolder,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Source of the pairs: anything that `build` accepts.")
    ],
    address: Address = "",
    encoder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the base's encoder, if it was moved; with --address, the service's is used.",
        ),
    ] = None,
) -> None:
    """Add the pairs of SOURCE to a knowledge base; a pair whose id exists replaces the old one.

    A service that serves KB_DIR finds the pairs within a second. When this command ends, they are durable. After an
    interruption, run it again: pairs that are already there stay unchanged. While a service makes changes of its
    clients it holds KB_DIR's lock, and this command fails with its address: pass that with --address. If the service
    requires an API key, set REIMAGEN_RETRIEVER_CLIENT_API_KEY to one with the right write.

    If the base has vectors, its encoder computes those of the new pairs.
    """
    with report_errors():
        rejections = Rejections(_print)
        pairs = open_source(source)
        groups = checked_groups(chain(pairs.entries(), pairs.left_over()), rejections)
        if address:
            response = _send(address, groups)
            counts = {"added": response.added, "updated": response.updated, "unchanged": response.unchanged}
            revision = response.revision
        else:
            outcomes: Counter[Outcome] = Counter()
            with (
                LiveWriter(knowledge_base, Holder(work="add")) as writer,
                closing(ServedBase(knowledge_base, encoder)) as served,
            ):
                served.open()
                with served.current() as base:
                    refuse_without_encoder(base)
                for group in groups:
                    with served.current() as base:
                        puts = with_vectors(base, group, rejections)
                    outcomes.update(writer.apply(puts))
                    served.refresh()
                revision = writer.revision
            kinds = (Outcome.ADDED, Outcome.UPDATED, Outcome.UNCHANGED)
            counts = {outcome.value: outcomes[outcome] for outcome in kinds}
        summary = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        typer.echo(f"{address or knowledge_base}: {summary}, {rejections.count:,} left out, revision {revision}")


def remove(
    knowledge_base: KnowledgeBaseFolder,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the pairs to remove.")],
    address: Address = "",
) -> None:
    """Remove pairs from a knowledge base; `compact` frees their space afterwards.

    The removal is durable when this command ends. A service that serves KB_DIR stops finding the pairs within a second.
    """
    with report_errors():
        for number, identifier in enumerate(ids):
            refuse_bad_id(identifier, f"ids[{number}]")
        if address:
            with _service(address) as (stub, metadata):
                response = stub.DeletePairs(pb.DeletePairsRequest(ids=ids), metadata=metadata)
            removed, unknown, revision = response.removed, list(response.unknown), response.revision
        else:
            unique_ids = list(dict.fromkeys(ids))
            with LiveWriter(knowledge_base, Holder(work="remove")) as writer:
                outcomes = writer.apply([Remove(identifier) for identifier in unique_ids])
                revision = writer.revision
            unknown = [name for name, outcome in zip(unique_ids, outcomes, strict=True) if outcome is Outcome.UNKNOWN]
            removed = len(unique_ids) - len(unknown)
        for identifier in unknown:
            typer.echo(f"no pair has the id {identifier!r}", err=True)
        typer.echo(f"{address or knowledge_base}: {removed:,} removed, revision {revision}")


@contextmanager
def _service(address: str) -> Iterator[tuple[RetrievalStub, tuple[tuple[str, str | bytes], ...]]]:
    """Connect to a service. Yield its stub, and the metadata that its calls need."""
    read_address(address, "address")
    credentials = read_settings(ClientSettings, {}).credentials()
    with credentials.open_channel(address) as channel:
        try:
            yield RetrievalStub(channel), credentials.metadata()
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


def _send(address: str, groups: Iterator[list[Put]]) -> pb.AddPairsResponse:
    failed: list[Exception] = []

    def requests() -> Iterator[pb.AddPairsRequest]:
        try:
            for group in groups:
                yield from map(_request, group)
        except Exception as error:
            failed.append(error)
            raise

    try:
        with _service(address) as (stub, metadata):
            return stub.AddPairs(requests(), metadata=metadata)
    except ReimagenError as error:
        # If the source fails halfway, gRPC only reports a failed stream; raise the source's error.
        raise (failed[0] if failed else error) from error


def _request(put: Put) -> pb.AddPairsRequest:
    return pb.AddPairsRequest(
        id=put.pair.id,
        caption=put.pair.caption,
        image=put.pair.image,
        source=put.pair.source,
        license=put.pair.license,
        unsafe=put.pair.unsafe,
    )


def _print(rejected: Rejected) -> None:
    detail = f" ({rejected.detail})" if rejected.detail else ""
    sentence = f"left out {rejected.location}: {rejected.reason}{detail}"
    typer.echo(sentence.encode("utf-8", "backslashreplace").decode(), err=True)
