"""Generate an image in the background over REST, print its progress, and print the pairs that it is grounded on.

python examples/job.py PROMPT IMAGE.png
"""

import json
import os
import sys
import uuid
from pathlib import Path

import httpx

ENDS = ("job.completed", "job.failed", "job.cancelled")


def main(prompt: str, file: Path) -> None:
    """Create a job, watch it until it ends, and write its image to the file."""
    with httpx.Client(base_url=os.environ.get("REIMAGEN_URL", "http://127.0.0.1:8000"), timeout=60) as client:
        # With the key, the request can be repeated after a broken connection without making a second job.
        key = {"Idempotency-Key": str(uuid.uuid4())}
        created = client.post("/v1/jobs", json={"prompt": prompt, "retrieval": {"k": 2}}, headers=key)
        if created.is_error:
            sys.exit(f"{created.status_code}: {created.json()['detail']}")
        path = f"/v1/jobs/{created.json()['id']}"
        watch(client, path)
        job = client.get(path).json()
        if job["status"] != "completed":
            sys.exit(f"{job['status']}: {job.get('error', {}).get('message', '')}")
        file.write_bytes(client.get(job["data"][0]["url"]).content)
    for neighbor in job["neighbors"]:
        print(f"{neighbor['id']}: {neighbor['caption']} ({neighbor['license'] or 'license unknown'})")  # noqa: T201


def watch(client: httpx.Client, path: str) -> None:
    """Print the progress of a job until it ends. Continue after a broken connection."""
    last = "0"
    while True:
        try:
            with client.stream("GET", f"{path}/events", headers={"Last-Event-ID": last}) as response:
                for line in response.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "id":
                        last = value
                    elif name == "data":
                        event = json.loads(value)
                        if event["type"] == "job.progress":
                            sys.stderr.write(f"\r{event['size']} pixels: step {event['step']} of {event['steps']} ")
                        if event["type"] in ENDS:
                            return
        except httpx.TransportError as error:
            sys.stderr.write(f"\n{error}; connecting again\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
