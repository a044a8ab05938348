#!/bin/sh
# Generate an image over REST with curl, and print the pairs that it is grounded on:
# sh examples/curl.sh PROMPT IMAGE.png
set -eu
url=${REIMAGEN_URL:-http://127.0.0.1:8000}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
curl --silent --show-error --fail-with-body --max-time 300 "$url/v1/images/generations" \
    --header 'Content-Type: application/json' ${REIMAGEN_API_KEY:+--header "Authorization: Bearer $REIMAGEN_API_KEY"} \
    --output "$answer" \
    --data "$(python3 -c 'import json, sys; print(json.dumps({"prompt": sys.argv[1], "retrieval": {"k": 2}}))' "$1")"
python3 - "$answer" "$2" <<'PYTHON'
import base64, json, sys

answer = json.load(open(sys.argv[1]))
open(sys.argv[2], "wb").write(base64.b64decode(answer["data"][0]["b64_json"]))
for neighbor in answer["neighbors"]:
    print(f"{neighbor['id']}: {neighbor['caption']} ({neighbor['license'] or 'license unknown'})")
PYTHON
