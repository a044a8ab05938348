"""The right that each route and each RPC of the generator requires."""

from collections.abc import Mapping
from typing import Final

from reimagen_common.access.rights import Right, Rights
from reimagen_common.access.routes import COMMON_ROUTES
from reimagen_common.http_paths import ID_PATH

ROUTES: Final[Rights] = {
    **COMMON_ROUTES,
    "POST /v1/images/generations": Right.GENERATE,
    "GET /v1/images/files/{name}": Right.GENERATE,
    f"GET /v1/pairs/{ID_PATH}/image": Right.READ,
    "GET /v1/models": Right.READ,
    "GET /v1/models/{name}": Right.READ,
}

CALLS: Final[Mapping[str, Right]] = {
    "reimagen.v1.Generation/Generate": Right.GENERATE,
    "reimagen.v1.Generation/Describe": Right.READ,
}
