"""The OpenAPI description of the form of edits, made from the model of its fields."""

from typing import Any, Final

from reimagen_generator.api.http.schema import EditsRequest
from reimagen_generator.generation.request import NEIGHBORS, PROMPT_CHARACTERS
from reimagen_generator.generation.request_parts import MAXIMUM_REFERENCE_WEIGHT

_IMAGE: Final = {"type": "string", "contentMediaType": "application/octet-stream"}


def without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field of a form, in which null is the same as a missing field."""
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    about = {name: value for name, value in field.items() if name != "anyOf"}
    return {**kinds[0], **about} if len(kinds) == 1 else {**about, **({"anyOf": kinds} if kinds else {})}


def _schema() -> dict[str, Any]:
    schema = EditsRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    return {
        "type": "object",
        "title": "EditsForm",
        "properties": _properties(schema),
        "required": ["prompt"],
        "anyOf": [{"required": ["image"]}, {"required": ["references"]}],
        "additionalProperties": False,
        "allOf": schema["allOf"],
    }


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    fields = {name: without_null(field) for name, field in schema["properties"].items()}
    return {
        "image": {
            "type": "array",
            "items": _IMAGE,
            "minItems": 1,
            "maxItems": NEIGHBORS,
            "description": "Image files to use as neighbors, at most 4 MiB and 64 megapixels each. The field may also "
            "be named `image[]`, as OpenAI's clients do for a list.",
        },
        "reference_captions": {
            "type": "array",
            "items": {"type": "string", "maxLength": PROMPT_CHARACTERS},
            "maxItems": 1,
            "description": "Text that says what each image shows: one for each image, or one for all. Unset: the "
            "prompt. The field is repeated, or is a JSON list.",
        },
        "reference_weights": {
            "type": "array",
            "items": {"type": "number", "minimum": 0, "maximum": MAXIMUM_REFERENCE_WEIGHT},
            "maxItems": 1,
            "description": "Weight of each image, as in `references`: one for each image, or one for all. Unset: 1. "
            "The field is repeated, or is a JSON list.",
        },
        "reference_cut_outs": {
            "type": "array",
            "items": {"type": "boolean"},
            "maxItems": 1,
            "description": "Whether to cut the object of each image out, as in `references`: one for each image, or "
            "one for all. Unset: false. The field is repeated, or is a JSON list.",
        },
        **fields,
        "references": fields["references"]
        | {
            "minItems": 1,
            "description": "Uploaded files and pairs of the knowledge base by their ids, as JSON, after `image`.",
        },
    }


EDIT_FORM: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _schema(),
        }
    },
}
"""The request body of POST /v1/images/edits."""
