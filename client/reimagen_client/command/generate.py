"""The command `reimagen generate`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from reimagen_client.command.context import AsJson, client_of
from reimagen_client.command.output import out, plain, print_json, print_neighbors, report_errors
from reimagen_client.command.progress import can_preview, display
from reimagen_client.errors import InvalidRequest
from reimagen_client.models import Done, Image, Retrieved
from reimagen_client.options import Options, OutputFormat, Quality, Reference

_FORMATS: Final[dict[str, OutputFormat]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
_PREVIEWS: Final = 3
_STAGE: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "steps": ("stage", int),
    "sampler": ("stage", str),
    "strategy": ("guidance", str),
    "text_weight": ("guidance", float),
    "neighbor_weight": ("guidance", float),
    "interleave_ratio": ("guidance", float),
}
"""What a change of each name belongs to, and how its text is read."""


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the images, or a file with a suffix such as .png.")
    ] = Path(),
    n: Annotated[int, typer.Option("-n", help="Number of images, 1 to 10.")] = 1,
    size: Annotated[int | None, typer.Option(help="Width and height in pixels [default: 256 if possible].")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first image [default: random].")] = None,
    k: Annotated[int | None, typer.Option("-k", help="Maximum number of neighbors; 0 uses the prompt alone.")] = None,
    reference: Annotated[
        list[Path] | None, typer.Option(help="Image to draw from in place of neighbors. May be repeated.")
    ] = None,
    caption: Annotated[
        list[str] | None,
        typer.Option(help="What the references show: one for each, or one for all [default: the prompt]."),
    ] = None,
    cut_out: Annotated[
        bool, typer.Option("--cut-out", help="Cut the objects of the references out, as for photographs.")
    ] = False,
    quality: Annotated[
        Quality | None, typer.Option(help="Number of steps: low takes half, high twice as many.")
    ] = None,
    output_format: Annotated[
        OutputFormat | None, typer.Option("--format", help="Format of the files [default: from -o, else png].")
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What not to draw.")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps of each stage.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampler, such as ddim.")] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIZE,NAME=VALUE...",
            help="Changes of one stage: steps, sampler, strategy, text_weight, neighbor_weight, interleave_ratio; such "
            "as 64,steps=40,text_weight=3. May be repeated.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the cascade [default: the loaded one].")] = None,
    background: Annotated[
        bool, typer.Option("--job", help="Create a job, print its id and exit; `reimagen jobs watch` saves its images.")
    ] = False,
    previews: Annotated[
        bool | None, typer.Option(help="Show previews [default: in terminals that can].", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw images of a prompt, save them, and print the pairs that they are grounded on."""
    with report_errors():
        options = {
            "n": n,
            "size": size,
            "seed": seed,
            "k": k,
            "references": _references(reference or [], caption or [], cut_out=cut_out),
            "quality": quality,
            "output_format": output_format or _FORMATS.get(output.suffix.lower()),
            "negative_prompt": negative_prompt,
            "steps": steps,
            "sampler": sampler,
            "stages": [_stage(text) for text in stage or []],
            "model": model,
        }
        given = cast(Options, {name: value for name, value in options.items() if value not in (None, [])})
        target = Target(output, n)
        if background:
            with client_of(context) as client:
                job = client.jobs.create(prompt, **given)
            out().print(json.dumps(plain(job), indent=2) if as_json else job.id)
            return
        shown = can_preview() if previews is None else previews
        found, saved = Retrieved(), []
        with client_of(context) as client, display(n=n, previews=shown) as progress:
            for event in client.stream(prompt, previews=_PREVIEWS if shown else 0, **given):
                progress.show(event)
                match event:
                    case Retrieved():
                        found = event
                    case Done():
                        saved.append((target.save(event.image), event.image))
        print_saved(saved, found, as_json=as_json)


class Target:
    """The file or folder that images are saved to."""

    def __init__(self, output: Path, n: int) -> None:
        """Create the folder.

        Raises:
            InvalidRequest: The path does not fit the number of images.
        """
        self.is_file = output.suffix.lower() in _FORMATS and not output.is_dir()
        if self.is_file and n > 1:
            raise InvalidRequest(f"output: must be a folder for {n} images, got {output}", field="output")
        if output.exists() and not self.is_file and not output.is_dir():
            raise InvalidRequest(f"output: must be a folder or an image file, got {output}", field="output")
        self.output = output
        (output.parent if self.is_file else output).mkdir(parents=True, exist_ok=True)

    def save(self, image: Image) -> Path:
        """Save an image and return its path."""
        return image.save(self.output)


def print_saved(saved: Sequence[tuple[Path, Image]], found: Retrieved, *, as_json: bool) -> None:
    """Print the paths of images and their neighbors."""
    if as_json:
        images = [{"file": str(path), "seed": image.seed, "index": image.index} for path, image in saved]
        result: dict[str, Any] = {"images": images} | plain(found)
        print_json(result)
        return
    for path, image in saved:
        out().print(f"{path} (seed {image.seed})" if image.seed is not None else str(path))
    print_neighbors(found.neighbors, found.nothing_found, found.refused)


def _stage(text: str) -> dict[str, Any]:
    """Return the changes of a stage from text such as `64,steps=40,text_weight=3`."""
    size, *changes = text.split(",")
    fields: dict[str, Any] = {}
    guidance: dict[str, Any] = {}
    try:
        fields["size"] = int(size)
        for change in changes:
            name, _, value = change.partition("=")
            of_name, read = _STAGE[name.strip()]
            (guidance if of_name == "guidance" else fields)[name.strip()] = read(value.strip())
    except (KeyError, ValueError) as error:
        raise InvalidRequest(
            f"stage: must be SIZE,NAME=VALUE... with the names {', '.join(_STAGE)}, got {text!r}", field="stage"
        ) from error
    return fields | ({"guidance": guidance} if guidance else {})


def _references(images: list[Path], captions: list[str], *, cut_out: bool) -> list[Reference]:
    if captions and len(captions) not in (1, len(images)):
        raise InvalidRequest(
            f"caption: must be given once, or once for each of the {len(images)} references, got {len(captions)}",
            field="caption",
        )
    if captions and not images:
        raise InvalidRequest("caption: needs a --reference", field="caption")
    if cut_out and not images:
        raise InvalidRequest("cut_out: needs a --reference", field="cut_out")
    return [
        Reference(image=image, caption=captions[number % len(captions)] if captions else None, cut_out=cut_out)
        for number, image in enumerate(images)
    ]
