"""The demonstration: `make demo`, or `python -m reimagen_demo`."""

import base64
import io
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer
from PIL import Image
from rich.console import Console

from reimagen_common.local_redis import LocalRedis
from reimagen_demo import knowledge_base
from reimagen_demo.children import Child, ChildError, free_address, ready_http, serving_grpc
from reimagen_demo.contact_sheet import Row, contact_sheet
from reimagen_demo.entities import Entity, entities

RETRIEVER_SECONDS = 120.0
GENERATOR_SECONDS = 420.0
"""How long it may take to be ready: the first start compiles the cascade."""
DRAW_SECONDS = 300.0

console = Console(highlight=False)


@dataclass(frozen=True)
class Sample:
    """A picture to draw."""

    prompt: str
    size: int
    seed: int


SAMPLES = (
    Sample("a panda in the snow", 256, 1),
    Sample("a violin on a stage", 256, 2),
    Sample("an octopus under water", 256, 3),
    Sample("a fox in a forest", 256, 4),
    Sample("a doughnut in space", 1024, 5),
)


def demonstrate(
    folder: Path,
    out_folder: Path,
    *,
    wanted: Sequence[Entity] = entities(),
    samples: Sequence[Sample] = SAMPLES,
    stay: bool,
) -> None:
    """Builds what is missing, starts everything, draws the samples; stops what it started, whatever happens.

    Args:
        folder: Of what is built, kept for the next time.
        out_folder: For the pictures and `contact-sheet.png`.
        wanted: The entities in the knowledge base.
        samples: What is drawn.
        stay: Keep serving until Ctrl-C.

    Raises:
        ChildError: a service failed.
        RuntimeError: something else failed; the message says what.
    """
    began = time.monotonic()
    with _timed("the knowledge base"):
        base = knowledge_base.build(folder, wanted)
    logs = folder / "logs"
    retriever, generator, rest = free_address(50051), free_address(50052), free_address(8000)
    url = f"http://{rest}"
    with ExitStack() as running:
        with _timed("Redis"):
            redis = running.enter_context(LocalRedis())
        command = ["reimagen-retriever", "serve", str(base), "--address", retriever, "--redis-url", redis.url]
        retriever_process = running.enter_context(Child(command, logs / "retriever.log"))
        command = ["reimagen-generator", "serve", "--retriever", retriever, "--grpc", generator, "--http", rest]
        # Beside what else is built here, so that nothing is left outside of the checkout.
        compiled = {"REIMAGEN_GENERATOR_COMPILE_CACHE": str(folder / "compiled")}
        generator_process = running.enter_context(Child(command, logs / "generator.log", compiled))
        with _timed("the retriever"):
            retriever_process.wait_until(lambda: serving_grpc(retriever), RETRIEVER_SECONDS)
        with _timed("the generator"), console.status("compiling the cascade (the first time takes minutes)"):
            generator_process.wait_until(lambda: ready_http(url), GENERATOR_SECONDS)
        _draw(url, samples, out_folder, {entity.phrase: entity for entity in wanted})
        console.print(f"All done {time.monotonic() - began:.0f} s after the start.")
        _tell(url)
        if stay:
            console.print("Serving until Ctrl-C.")
            while True:
                retriever_process.check()
                generator_process.check()
                time.sleep(0.5)


def _draw(url: str, samples: Sequence[Sample], out_folder: Path, known: dict[str, Entity]) -> None:
    out_folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, sample in enumerate(samples, start=1):
        body = {"prompt": sample.prompt, "size": f"{sample.size}x{sample.size}", "seed": sample.seed}
        start = time.monotonic()
        with console.status(f"drawing {sample.prompt} at {sample.size} px"):
            answer = _generate(url, body)
        seconds = time.monotonic() - start
        picture = base64.b64decode(answer["data"][0]["b64_json"])
        path = out_folder / f"{number}-{sample.prompt.replace(' ', '-')}-{sample.size}.png"
        path.write_bytes(picture)
        console.print(f"  {path}  {seconds:.1f} s")
        neighbors = answer["neighbors"]
        entity = known.get(neighbors[0]["text"]) if neighbors else None
        unseen = ", held out of training" if entity and entity.split == "held-out" else ""
        rows.append(
            Row(
                title=f'"{sample.prompt}"',
                neighbors=[
                    (_open(found["b64_json"]), f"{found['text']} ({found['license']})\n{_short(found['source'])}")
                    for found in neighbors
                ],
                picture=_open(answer["data"][0]["b64_json"]),
                caption=f"drawn at {sample.size} px in {seconds:.1f} s\nseed {sample.seed}{unseen}",
            )
        )
    sheet = out_folder / "contact-sheet.png"
    contact_sheet(rows).save(sheet)
    console.print(f"  {sheet}  neighbors and pictures side by side")


def _generate(url: str, body: dict[str, Any]) -> dict[str, Any]:
    response = httpx.post(f"{url}/v1/images/generations", json=body, timeout=DRAW_SECONDS)
    if not response.is_success:
        raise RuntimeError(f"the generator answered {response.status_code} to {body}: {response.text}")
    answer: dict[str, Any] = response.json()
    return answer


def _short(source: str) -> str:
    """What tells one picture's source from another's."""
    return source.removeprefix("npm:@iconify-json/")


def _open(encoded: str) -> Image.Image:
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        return picture.convert("RGB")


@contextmanager
def _timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    console.print(f"{what}: ready in {time.monotonic() - start:.1f} s")


def _tell(url: str) -> None:
    decode = (
        "import base64,json,sys;sys.stdout.buffer.write(base64.b64decode(json.load(sys.stdin)['data'][0]['b64_json']))"
    )
    console.print(f"REST is at {url}, described at {url}/docs. Draw one yourself:")
    console.print(
        f"  curl -s {url}/v1/images/generations -H 'Content-Type: application/json' "
        f'-d \'{{"prompt": "a panda in the snow", "size": "256x256"}}\' | python3 -c "{decode}" > out/mine.png',
        soft_wrap=True,
        markup=False,
    )


def main(
    oneshot: Annotated[bool, typer.Option("--oneshot", help="Exit after the pictures instead of serving on.")] = False,
) -> None:
    """Build the demonstration's knowledge base, start Redis, retriever and generator, and draw pictures into out/."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        demonstrate(Path("build/demo"), Path("out"), stay=not oneshot)
    except KeyboardInterrupt:
        console.print("stopped")
    except (ChildError, RuntimeError, httpx.HTTPError) as error:
        console.print(f"The demonstration failed: {error}", style="red", markup=False)
        console.print("Logs are in build/demo/logs. `make clean` starts over; what the next run finds built it keeps.")
        sys.exit(1)


def interrupt(_number: int, _frame: object) -> NoReturn:
    """A signal's handler that ends the demonstration as Ctrl-C does: with everything stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
