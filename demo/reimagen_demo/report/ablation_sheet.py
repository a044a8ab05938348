"""The effect of references: held-out entities, drawn with retrieval and without it.

`python -m reimagen_demo.report.ablation_sheet` starts all services as `make demo` does. It draws each prompt twice from
the same seed, once as usual and once from the text alone, and arranges the images next to the references.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from reimagen_demo.art.entities import Entity, entities
from reimagen_demo.report.contact_sheet import Row, contact_sheet, webp
from reimagen_demo.scenes.registry import SCENES
from reimagen_demo.stack.client import draw
from reimagen_demo.stack.running import console, report_errors, running

SIZE = 256
WEBP_BYTES = 300_000
"""Largest size in bytes of an image in the documentation."""


def prompts(known: Sequence[Entity] = entities()) -> list[str]:
    """Return the prompts, chosen by a fixed rule and not by their results.

    The entities are the first and the last of each family that is wholly held out, in the order of the list of
    entities. The n-th of them is put in the n-th scene of `scenes.SCENES`.
    """
    chosen = []
    for _, group in groupby(known, key=lambda entity: entity.family):
        family = list(group)
        if all(entity.split == "held-out" for entity in family):
            chosen += [family[0], family[-1]]
    return [f"{entity.phrase} {scene.phrase}" for entity, scene in zip(chosen, SCENES, strict=False)]


def compare(url: str, drawn: Sequence[str], size: int = SIZE) -> list[Row]:
    """Draw the prompts with the generator at that URL; return a row for each: references, with retrieval, without.

    Raises:
        RuntimeError: the generator rejected a request, or found no references for a prompt.
    """
    rows = []
    for seed, prompt in enumerate(drawn, start=1):
        with console.status(f"drawing {prompt}"):
            grounded, alone = draw(url, prompt, size, seed), draw(url, prompt, size, seed, k=0)
        if not grounded.neighbors:
            raise RuntimeError(f"nothing was found for {prompt!r}, so there is nothing to compare")
        neighbors = [(found.image, found.label) for found in grounded.neighbors]
        images = [(grounded.image, f"with retrieval\nseed {seed}"), (alone.image, f"without\nseed {seed}")]
        rows.append(Row(f'"{prompt}"', neighbors, images))
        console.print(f"  {prompt}  {grounded.seconds:.1f} s, without retrieval {alone.seconds:.1f} s")
    return rows


def main() -> None:
    """Write out/with-and-without.png, and the same as WebP for the documentation."""
    out = Path("out/with-and-without.png")
    with report_errors(), running(Path("build/demo")) as system:
        rows = compare(system.generator.url, prompts())
        sheet = contact_sheet(rows)
        out.parent.mkdir(exist_ok=True)
        sheet.save(out)
        out.with_suffix(".webp").write_bytes(webp(sheet, WEBP_BYTES))
        console.print(f"  {out} and .webp  references, with retrieval, without")


if __name__ == "__main__":
    main()
