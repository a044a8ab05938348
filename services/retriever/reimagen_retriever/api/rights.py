"""The right that each route and each RPC of the retriever requires."""

from collections.abc import Mapping
from typing import Final

from reimagen_common.access.rights import Right, Rights
from reimagen_common.access.routes import COMMON_ROUTES
from reimagen_common.http_paths import ID_PATH

ROUTES: Final[Rights] = {
    **COMMON_ROUTES,
    "GET /v1/search": Right.READ,
    "POST /v1/search": Right.READ,
    f"GET /v1/pairs/{ID_PATH}/image": Right.READ,
    "POST /v1/pairs": Right.WRITE,
    f"DELETE /v1/pairs/{ID_PATH}": Right.WRITE,
    f"GET /v1/pairs/{ID_PATH}": Right.READ,
}

CALLS: Final[Mapping[str, Right]] = {
    "reimagen.v1.Retrieval/Search": Right.READ,
    "reimagen.v1.Retrieval/BatchSearch": Right.READ,
    "reimagen.v1.Retrieval/GetPair": Right.READ,
    "reimagen.v1.Retrieval/ListPairs": Right.READ,
    "reimagen.v1.Retrieval/AddPairs": Right.WRITE,
    "reimagen.v1.Retrieval/DeletePairs": Right.WRITE,
    "reimagen.v1.Retrieval/Describe": Right.READ,
}
