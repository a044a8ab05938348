"""The command of the demonstration: `make demo`, or `python -m reimagen_demo`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from reimagen_demo.art.entities import Entity, entities
from reimagen_demo.report.contact_sheet import Row, contact_sheet
from reimagen_demo.stack.client import draw
from reimagen_demo.stack.running import console, report_errors, running


@dataclass(frozen=True)
class Sample:
    """A prompt to draw, with the image's side in pixels and the seed."""

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
    known: Sequence[Entity] = entities(),
    samples: Sequence[Sample] = SAMPLES,
    stay: bool,
) -> None:
    """Build what is missing, start all services, draw the samples, and stop the services even after an error.

    Args:
        folder: folder of the build; its contents are reused by the next run.
        out_folder: folder for the images and `contact-sheet.png`.
        known: entities in the knowledge base.
        samples: prompts to draw.
        stay: whether to continue serving until Ctrl-C.

    Raises:
        ChildError: a service failed.
        RuntimeError: another step failed; the message names it.
    """
    began = time.monotonic()
    with running(folder, known) as system:
        url = system.generator.url
        _draw(url, samples, out_folder, {entity.phrase: entity for entity in known})
        console.print(f"Finished {time.monotonic() - began:.0f} s after the start.")
        _print_usage(url)
        if stay:
            console.print("Serving until Ctrl-C.")
            while True:
                system.check()
                time.sleep(0.5)


def _draw(url: str, samples: Sequence[Sample], out_folder: Path, by_phrase: dict[str, Entity]) -> None:
    out_folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, sample in enumerate(samples, start=1):
        with console.status(f"drawing {sample.prompt} at {sample.size} px"):
            answer = draw(url, sample.prompt, sample.size, sample.seed)
        path = out_folder / f"{number}-{sample.prompt.replace(' ', '-')}-{sample.size}.png"
        path.write_bytes(answer.file)
        console.print(f"  {path}  {answer.seconds:.1f} s")
        entity = by_phrase.get(answer.neighbors[0].caption) if answer.neighbors else None
        unseen = ", held out of training" if entity and entity.split == "held-out" else ""
        rows.append(
            Row(
                title=f'"{sample.prompt}"',
                neighbors=[(found.image, found.label) for found in answer.neighbors],
                drawn=[
                    (answer.image, f"drawn at {sample.size} px in {answer.seconds:.1f} s\nseed {sample.seed}{unseen}")
                ],
            )
        )
    sheet = out_folder / "contact-sheet.png"
    contact_sheet(rows).save(sheet)
    console.print(f"  {sheet}  neighbors and images side by side")


def _print_usage(url: str) -> None:
    decode = (
        "import base64,json,sys;sys.stdout.buffer.write(base64.b64decode(json.load(sys.stdin)['data'][0]['b64_json']))"
    )
    console.print(f"The REST API is at {url}, its documentation at {url}/docs. Draw an image of your own:")
    console.print(
        f"  curl -s {url}/v1/images/generations -H 'Content-Type: application/json' "
        f'-d \'{{"prompt": "a panda in the snow", "size": "256x256"}}\' | python3 -c "{decode}" > out/mine.png',
        soft_wrap=True,
        markup=False,
    )


def main(
    oneshot: Annotated[bool, typer.Option("--oneshot", help="Exit after the images instead of serving on.")] = False,
) -> None:
    """Build the demonstration's knowledge base, start Redis, retriever and generator, and draw images into out/."""
    with report_errors():
        demonstrate(Path("build/demo"), Path("out"), stay=not oneshot)


if __name__ == "__main__":
    typer.run(main)
