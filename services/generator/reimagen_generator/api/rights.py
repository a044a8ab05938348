"""The right that each route and each RPC of the generator requires."""

from collections.abc import Mapping
from typing import Final

from reimagen_common.access.rights import OPEN, Right, Rights
from reimagen_common.access.routes import COMMON_ROUTES
from reimagen_common.http_paths import ID_PATH

ROUTES: Final[Rights] = {
    **COMMON_ROUTES,
    # The page contains nothing that is not public; it asks for a key.
    "GET /": OPEN,
    "GET /page/{version}/{name:path}": OPEN,
    "POST /v1/images/generations": Right.GENERATE,
    "POST /v1/images/edits": Right.GENERATE,
    "POST /v1/images/cut-outs": Right.GENERATE,
    "GET /v1/images/files/{name}": Right.GENERATE,
    "POST /v1/jobs": Right.GENERATE,
    "GET /v1/jobs": Right.GENERATE,
    "GET /v1/jobs/{id}": Right.GENERATE,
    "DELETE /v1/jobs/{id}": Right.GENERATE,
    "GET /v1/jobs/{id}/images/{index}": Right.GENERATE,
    "GET /v1/jobs/{id}/events": Right.GENERATE,
    "POST /v1/files": Right.GENERATE,
    "GET /v1/files": Right.GENERATE,
    "GET /v1/files/{id}": Right.GENERATE,
    "GET /v1/files/{id}/content": Right.GENERATE,
    "DELETE /v1/files/{id}": Right.GENERATE,
    "GET /v1/knowledge/search": Right.READ,
    "POST /v1/knowledge/search": Right.READ,
    "GET /v1/knowledge/pairs": Right.READ,
    "POST /v1/knowledge/pairs": Right.WRITE,
    f"DELETE /v1/knowledge/pairs/{ID_PATH}": Right.WRITE,
    f"GET /v1/knowledge/pairs/{ID_PATH}": Right.READ,
    f"GET /v1/knowledge/uses/{ID_PATH}": Right.WRITE,
    f"GET /v1/pairs/{ID_PATH}/image": Right.READ,
    "POST /v1/verify": Right.READ,
    "GET /v1/models": Right.READ,
    "GET /v1/models/{name}": Right.READ,
}

CALLS: Final[Mapping[str, Right]] = {
    "reimagen.v1.Generation/Generate": Right.GENERATE,
    "reimagen.v1.Generation/CreateJob": Right.GENERATE,
    "reimagen.v1.Generation/GetJob": Right.GENERATE,
    "reimagen.v1.Generation/ListJobs": Right.GENERATE,
    "reimagen.v1.Generation/WatchJob": Right.GENERATE,
    "reimagen.v1.Generation/CancelJob": Right.GENERATE,
    "reimagen.v1.Generation/CutOut": Right.GENERATE,
    "reimagen.v1.Generation/Describe": Right.READ,
}
