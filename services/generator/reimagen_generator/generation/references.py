"""The references of a request as neighbors: the caller's images, and pairs that are fetched from the retriever."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reimagen.v1 import retrieval_pb2
from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_generator.cut_out.cut_out import SIDE, cut_out
from reimagen_generator.diffusion.references import ReferencePair, decode
from reimagen_generator.generation.request import GenerationRequest
from reimagen_generator.generation.request_parts import Reference
from reimagen_generator.generation.retriever_client import Neighbor, Neighbors, RetrieverClient

_ALL_IGNORED = retrieval_pb2.NothingFound(reason="all references have weight 0", field="references")


@dataclass(frozen=True)
class References:
    """The references of a request, as the answer names them and as the networks see them."""

    neighbors: Neighbors
    """All references, in the order of the request."""
    pairs: list[ReferencePair]
    """Those whose weight is not 0."""


def counted(request: GenerationRequest) -> int:
    """Return the number of references that are not ignored."""
    return sum(reference.weight > 0 for reference in request.references)


def read_references(request: GenerationRequest, retriever: RetrieverClient, *, remaining: float) -> References:
    """Return the references of a request, with the pairs that it names, fetched in at most `remaining` seconds.

    Raises:
        InvalidArgument: An image cannot be read, or no pair has the given id. The error names the reference.
        Unavailable: The request names pairs, and the retriever does not answer.
        ReimagenError: The knowledge base has an unreadable image.
    """
    ids = [reference.pair_id for reference in request.references if reference.pair_id is not None]
    found = retriever.pairs(ids, remaining=remaining) if ids else {}
    neighbors, pairs = [], []
    for index, reference in enumerate(request.references):
        neighbor = _neighbor(reference, found, field=f"references.{index}.pair_id")
        image = read_neighbor(neighbor, field=f"references.{index}.image")
        neighbors.append(neighbor)
        if reference.weight > 0:
            pairs.append(ReferencePair(image.image, image.caption, reference.weight))
    ignored = bool(neighbors) and not pairs
    return References(Neighbors(neighbors, nothing_found=_ALL_IGNORED if ignored else None), pairs)


def with_cut_outs(references: References, requested: Sequence[Reference], check: Callable[[], None]) -> References:
    """Return the references of a request with the objects cut out of those for which it is requested.

    References of weight 0 stay as they are, since no network sees them.

    Args:
        references: The references.
        requested: The references as the request states them.
        check: Raises an error if the request is cancelled or late; called before each cut-out, which takes a while.

    Raises:
        InvalidArgument: An image cannot be read.
        Cancelled: The request is cancelled.
        DeadlineExceeded: The deadline has passed.
    """
    neighbors, pairs = list(references.neighbors.neighbors), list(references.pairs)
    shown = [index for index, reference in enumerate(requested) if reference.weight > 0]
    for position, index in enumerate(shown):
        if requested[index].cut_out:
            check()
            neighbors[index] = cut_neighbor(neighbors[index], field=f"references.{index}.image")
            pairs[position] = replace(read_neighbor(neighbors[index]), weight=requested[index].weight)
    return References(replace(references.neighbors, neighbors=neighbors), pairs)


def cut_neighbor(neighbor: Neighbor, *, field: str) -> Neighbor:
    """Return a neighbor with its object cut out, or unchanged with a warning if nothing can be cut out.

    Raises:
        InvalidArgument: The image cannot be read; the error names `field`.
    """
    cut = cut_out(neighbor.image, field=field)
    if cut.warning:
        return replace(neighbor, warning=cut.warning)
    return replace(neighbor, image=cut.image, media_type="image/png", width=SIDE, height=SIDE, cut_out=True)


def read_reference(reference: Reference, retriever: RetrieverClient, *, remaining: float) -> Neighbor:
    """Return a single reference as a neighbor, with its pair fetched in at most `remaining` seconds.

    Raises:
        InvalidArgument: No pair has the given id.
        Unavailable: The reference is a pair, and the retriever does not answer.
    """
    found = {} if reference.pair_id is None else retriever.pairs([reference.pair_id], remaining=remaining)
    return _neighbor(reference, found, field="pair_id")


def read_neighbor(neighbor: Neighbor, *, field: str = "") -> ReferencePair:
    """Return a neighbor with its image decoded, and weight 1.

    Args:
        neighbor: The neighbor.
        field: The field of the request that has the image, if it is not a pair's.

    Raises:
        InvalidArgument: The image of the request cannot be read.
        ReimagenError: The image of the pair cannot be read.
    """
    try:
        return ReferencePair(decode(neighbor.image, field=neighbor.id or field), neighbor.caption)
    except InvalidArgument as error:
        if not neighbor.id:
            raise
        # The cause is the knowledge base, so the request is not invalid.
        raise ReimagenError(f"the knowledge base has an unreadable image: pair {error.message}") from error


def _neighbor(reference: Reference, found: dict[str, Neighbor], *, field: str) -> Neighbor:
    if reference.pair_id is None:
        return Neighbor(reference.image, reference.caption or "", weight=reference.weight)
    if reference.pair_id not in found:
        raise InvalidArgument(
            "no pair of the knowledge base has this id; a search returns the ids of pairs", field=field
        )
    return replace(found[reference.pair_id], weight=reference.weight)
