"""Generate an image over REST, and print the pairs that it is grounded on.

python examples/rest.py PROMPT IMAGE.png
"""

import base64
import os
import sys
from pathlib import Path

import httpx


def main(prompt: str, file: Path) -> None:
    """Generate an image of the prompt and write it to the file."""
    url = os.environ.get("REIMAGEN_URL", "http://127.0.0.1:8000")
    key = os.environ.get("REIMAGEN_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"prompt": prompt, "retrieval": {"k": 2}}
    response = httpx.post(f"{url}/v1/images/generations", json=body, headers=headers, timeout=300)
    if response.is_error:
        sys.exit(f"{response.status_code}: {response.json()['detail']}")
    answer = response.json()
    file.write_bytes(base64.b64decode(answer["data"][0]["b64_json"]))
    for neighbor in answer["neighbors"]:
        print(f"{neighbor['id']}: {neighbor['caption']} ({neighbor['license'] or 'license unknown'})")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
