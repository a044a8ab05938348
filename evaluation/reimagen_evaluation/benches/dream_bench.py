"""DreamBench (DreamBooth, arXiv 2208.12242): 30 subjects, a few photographs of each, and 25 prompts.

It is read from the folder `dataset` of google/dreambooth: `SUBJECT/*.jpg`, and `prompts_and_classes.txt`, which
holds a table of subjects and classes and two Python lists of prompts, one for objects and one for live subjects.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reimagen_common.errors import InvalidArgument
from reimagen_common.hidden import is_hidden
from reimagen_evaluation.benches.item import Item, Reference

FILE = "prompts_and_classes.txt"
LIVE_CLASSES = ("cat", "dog")
"""The classes of live subjects; the file does not say which of its two lists of prompts a class uses."""

_PROMPT = re.compile(r"""^\s*(['"])(.*)\1\.format\(unique_token, class_token\),?\s*$""")


@dataclass(frozen=True)
class Protocol:
    """The contents of `prompts_and_classes.txt`."""

    classes: dict[str, str]
    """Class of each subject, by the name of the subject's folder."""
    objects: tuple[str, ...]
    """Prompts for objects; {0} is the token that stands for the subject, {1} is the subject's class."""
    live: tuple[str, ...]


def parse(text: str) -> Protocol:
    """Parse the text file.

    Raises:
        InvalidArgument: a section is missing or empty.
    """
    rest, live = _split(text, "Live Subject Prompts")
    rest, objects = _split(rest, "Object Prompts")
    _, table = _split(rest, "subject_name,class")
    classes = dict(line.split(",", 1) for line in table.splitlines() if "," in line)
    return Protocol(classes, _prompts(objects, "Object Prompts"), _prompts(live, "Live Subject Prompts"))


def items(folder: Path, *, token: str = "") -> list[Item]:
    """Return every subject's prompts, grounded on its photographs; the group is "objects" or "live subjects".

    Args:
        folder: the folder `dataset` of google/dreambooth.
        token: word that stands for the subject in a fine-tuned model; a model with retrieval needs none.

    Raises:
        InvalidArgument: the text file is missing or malformed, or a subject has no photograph.
    """
    file = folder / FILE
    if not file.exists():
        raise InvalidArgument(f"there is no {FILE} in {folder}; give the folder dataset of google/dreambooth")
    protocol = parse(file.read_text(encoding="utf-8"))
    bench_items = []
    for subject, word in protocol.classes.items():
        photographs = sorted(path for path in (folder / subject).glob("*.jpg") if not is_hidden(path.name))
        if not photographs:
            raise InvalidArgument(f"there is no photograph (*.jpg) in {folder / subject}")
        live = word in LIVE_CLASSES
        references = tuple(Reference(path, f"a {word}") for path in photographs)
        for number, template in enumerate(protocol.live if live else protocol.objects):
            prompt = " ".join(template.format(token, word).split())
            group = "live subjects" if live else "objects"
            bench_items.append(Item(f"{subject}.{number:02d}", prompt, (word,), prompt, group, references))
    return bench_items


def _split(text: str, heading: str) -> tuple[str, str]:
    before, found, after = text.partition(f"\n{heading}\n")
    if not found:
        raise InvalidArgument(f"{FILE} has no section {heading!r}")
    return before, after


def _prompts(section: str, heading: str) -> tuple[str, ...]:
    found: Sequence[re.Match[str] | None] = [_PROMPT.match(line) for line in section.splitlines()]
    prompts = tuple(match[2] for match in found if match)
    if not prompts:
        raise InvalidArgument(f"{FILE} has no prompt under {heading!r}")
    return prompts
