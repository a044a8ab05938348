"""Generate images of several prompts at the same time with the asynchronous client.

python examples/async_client.py FOLDER PROMPT...
"""

import asyncio
import sys
from pathlib import Path

from reimagen_client import AsyncClient, ReimagenError


async def main(folder: Path, prompts: list[str]) -> None:
    """Generate an image of each prompt, and write them to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncClient() as client:
        for done in await asyncio.gather(*(client.generate(prompt, k=2) for prompt in prompts)):
            captions = ", ".join(neighbor.caption for neighbor in done.neighbors)
            print(f"{done.images[0].save(folder)}: grounded on {captions or 'the prompt alone'}")  # noqa: T201


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
    except ReimagenError as error:
        sys.exit(error.message)
