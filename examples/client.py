"""Generate an image with the client package, print its progress, and print the pairs that it is grounded on.

python examples/client.py PROMPT IMAGE.png
"""

import sys
from pathlib import Path

from reimagen_client import Client, Done, Progress, ReimagenError, Retrieved


def main(prompt: str, file: Path) -> None:
    """Generate an image of the prompt and write it to the file."""
    try:
        with Client() as client:
            for event in client.stream(prompt, k=2):
                match event:
                    case Retrieved():
                        for found in event.neighbors:
                            print(f"{found.id}: {found.caption} ({found.license or 'license unknown'})")  # noqa: T201
                    case Progress():
                        sys.stderr.write(f"\r{event.size} pixels: step {event.step} of {event.steps} ")
                    case Done():
                        event.image.save(file)
    except ReimagenError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
