"""`reimagen-retriever add` and `remove`, on a folder or through a service that serves it."""

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
from reimagen_common.command_line import report_errors
from reimagen_common.errors import ReimagenError, from_rpc_error
from reimagen_retriever.knowledge_base.checks import refuse_bad_id
from reimagen_retriever.knowledge_base.folder_lock import Holder
from reimagen_retriever.knowledge_base.pair import Rejected
from reimagen_retriever.knowledge_base.sources import open_source
from reimagen_retriever.live.groups import Rejections, checked_groups
from reimagen_retriever.live.vectors import refuse_without_encoder, with_vectors
from reimagen_retriever.live.writer import LiveWriter, Outcome, Put, Remove
from reimagen_retriever.served_base import ServedBase

KnowledgeBaseFolder = Annotated[
    Path,
    typer.Argument(metavar="KB_DIR", help="Folder of the knowledge base; with --address the service's own counts."),
]
Address = Annotated[
    str,
    typer.Option(metavar="HOST:PORT", help="Of a service that serves KB_DIR: it makes the changes, not this command."),
]


def add(
    knowledge_base: KnowledgeBaseFolder,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="What to add: anything that `build` takes.")],
    address: Address = "",
    encoder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the base's encoder is, if it was moved; a service's own counts."),
    ] = None,
) -> None:
    """Add the pairs of SOURCE to a knowledge base; a pair whose id is there already replaces it.

    A service that serves KB_DIR finds them within a second. When this command ends they are safe on disk; interrupted,
    it may be called again: what is there already is left as it is. While a service itself is being sent changes it
    holds KB_DIR, and this command says so: name the service with --address then.

    Where the base has vectors, its encoder makes those of the new pairs.
    """
    with report_errors():
        rejections = Rejections(_tell)
        pairs = open_source(source)
        groups = checked_groups(chain(pairs.entries(), pairs.left_over()), rejections)
        if address:
            answer = _sent(address, groups)
            counts = {"added": answer.added, "updated": answer.updated, "unchanged": answer.unchanged}
            revision = answer.revision
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
        told_counts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        typer.echo(f"{address or knowledge_base}: {told_counts}, {rejections.count:,} left out, revision {revision}")


def remove(
    knowledge_base: KnowledgeBaseFolder,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Of the pairs to remove.")],
    address: Address = "",
) -> None:
    """Remove pairs from a knowledge base; `compact` then gives back their space.

    When this command ends no search finds them: a service that serves KB_DIR goes over within a second.
    """
    with report_errors():
        for number, identifier in enumerate(ids):
            refuse_bad_id(identifier, f"ids[{number}]")
        if address:
            with _service(address) as stub:
                answer = stub.DeletePairs(pb.DeletePairsRequest(ids=ids))
            removed, unknown, revision = answer.removed, list(answer.unknown), answer.revision
        else:
            asked = list(dict.fromkeys(ids))
            with LiveWriter(knowledge_base, Holder(work="remove")) as writer:
                outcomes = writer.apply([Remove(identifier) for identifier in asked])
                revision = writer.revision
            unknown = [name for name, outcome in zip(asked, outcomes, strict=True) if outcome is Outcome.UNKNOWN]
            removed = len(asked) - len(unknown)
        for identifier in unknown:
            typer.echo(f"no pair has the id {identifier!r}", err=True)
        typer.echo(f"{address or knowledge_base}: {removed:,} removed, revision {revision}")


@contextmanager
def _service(address: str) -> Iterator[RetrievalStub]:
    read_address(address, "address")
    with grpc.insecure_channel(address) as channel:
        try:
            yield RetrievalStub(channel)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


def _sent(address: str, groups: Iterator[list[Put]]) -> pb.AddPairsResponse:
    failed: list[Exception] = []

    def requests() -> Iterator[pb.AddPairsRequest]:
        try:
            for group in groups:
                yield from map(_request, group)
        except Exception as error:
            failed.append(error)
            raise

    try:
        with _service(address) as stub:
            return stub.AddPairs(requests())
    except ReimagenError as error:
        # Of a source that fails halfway, gRPC says no more than that it did.
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


def _tell(rejected: Rejected) -> None:
    detail = f" ({rejected.detail})" if rejected.detail else ""
    sentence = f"left out {rejected.location}: {rejected.reason}{detail}"
    typer.echo(sentence.encode("utf-8", "backslashreplace").decode(), err=True)
