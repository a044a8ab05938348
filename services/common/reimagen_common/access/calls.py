"""The right that each RPC of a service requires."""

from google.protobuf.descriptor_pool import Default


def calls_of(service: str) -> list[str]:
    """Return the RPCs of a gRPC service, such as `reimagen.v1.Retrieval`, as a table of rights names them."""
    return [f"{service}/{method.name}" for method in Default().FindServiceByName(service).methods]
