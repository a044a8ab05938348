#!/bin/sh
# Generate an image in the background with curl: create a job, watch its events, and print the pairs that the image is
# grounded on: sh examples/job.sh PROMPT IMAGE.png
set -eu
url=${REIMAGEN_URL:-http://127.0.0.1:8000}
field() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }
# With an Idempotency-Key, the request can be repeated after a broken connection without making a second job.
job=$(python3 -c 'import json, sys; print(json.dumps({"prompt": sys.argv[1], "retrieval": {"k": 2}}))' "$1" |
    curl --silent --show-error --fail-with-body "$url/v1/jobs" --header 'Content-Type: application/json' \
        --header "Idempotency-Key: $(python3 -c 'import uuid; print(uuid.uuid4())')" --data @- | field '["id"]')
# The stream ends with the job. To continue a broken one, send the last id in the header Last-Event-ID.
curl --silent --show-error --fail-with-body --no-buffer "$url/v1/jobs/$job/events" | grep '^event: ' | uniq >&2
answer=$(curl --silent --show-error --fail-with-body "$url/v1/jobs/$job")
curl --silent --show-error --fail-with-body --output "$2" "$(printf %s "$answer" | field '["data"][0]["url"]')"
printf %s "$answer" | python3 -c '
import json, sys

for neighbor in json.load(sys.stdin)["neighbors"]:
    print(neighbor["id"] + ": " + neighbor["caption"], "(" + (neighbor["license"] or "license unknown") + ")")
'
