"""Digests of requests, by which a repeated request is recognized."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from reimagen_generator.generation.request import GenerationRequest


def request_digest(request: GenerationRequest, fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the fields and of the images of the references.

    Args:
        request: The request.
        fields: The fields as JSON, without the images of the references.
    """
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for reference in request.references:
        digest.update(hashlib.sha256(reference.image).digest())
    return digest.hexdigest()


def fields_as_json(request: GenerationRequest, names: frozenset[str] | None = None) -> dict[str, Any]:
    """Return the fields of a request, or some of them, as JSON, without the images of the references."""
    text = request.model_dump_json(
        include=None if names is None else set(names), exclude={"references": {"__all__": {"image", "id"}}}
    )
    fields: dict[str, Any] = json.loads(text)
    return fields
