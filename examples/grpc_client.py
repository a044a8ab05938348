"""Generate an image over gRPC, print its progress, and print the pairs that it is grounded on.

    python examples/grpc_client.py PROMPT IMAGE.png

It needs only the stubs, in the package `reimagen-proto`.
"""

import os
import sys
from pathlib import Path

import grpc

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub


def main(prompt: str, file: Path) -> None:
    """Generate an image of the prompt and write it to the file."""
    request = pb.GenerateRequest(prompt=prompt, retrieval=pb.GenerateRequest.Retrieval(k=2))
    key = os.environ.get("REIMAGEN_API_KEY")
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    with grpc.insecure_channel(os.environ.get("REIMAGEN_GRPC", "127.0.0.1:50052")) as channel:
        try:
            for event in GenerationStub(channel).Generate(request, timeout=300, metadata=metadata):
                match event.WhichOneof("event"):
                    case "neighbors":
                        for neighbor in event.neighbors.neighbors:
                            pair = neighbor.pair
                            print(f"{pair.id}: {pair.caption} ({pair.license or 'license unknown'})")  # noqa: T201
                    case "progress":
                        progress = event.progress
                        sys.stderr.write(f"\r{progress.size} pixels: step {progress.step} of {progress.steps} ")
                    case "image":
                        file.write_bytes(event.image.image)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
