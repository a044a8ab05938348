"""What a model is measured on must not be among what it learns from: a base that overlaps it is refused."""

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_common.progress import progress_bar
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.knowledge_base.fingerprint import near_duplicates
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.neighbors.knn import Fingerprints

_SHOWN = 5
_AT_ONCE = 256
_NOTHING = np.zeros((0, 192), np.uint8)


@dataclass(frozen=True)
class EvaluationSet:
    """Captions, or whole pairs, that a model is to be measured on."""

    path: Path
    digest: str
    """Changes whenever the content does."""
    ids: frozenset[str]
    captions: frozenset[str]
    """Normalised."""
    names: Sequence[str]
    """Ids of the images, in the order of `fingerprints`."""
    fingerprints: NDArray[np.uint8]
    """(images, 192)."""


def read_evaluation_set(path: Path) -> EvaluationSet:
    """A file of captions, one a line in UTF-8, or the folder of a knowledge base.

    Raises:
        InvalidArgument: it is neither, or the file holds no caption.
        ReimagenError: the knowledge base is damaged.
    """
    if path.is_dir():
        return _of_base(path)
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"{path} can't be read as lines of captions in UTF-8: {error}", field="exclude"
        ) from error
    captions = frozenset(normalised(line) for line in lines) - {""}
    if not captions:
        raise InvalidArgument(f"{path} holds no caption; put one on each line", field="exclude")
    return EvaluationSet(path, hashlib.sha256(content).hexdigest(), frozenset(), captions, (), _NOTHING)


def _of_base(path: Path) -> EvaluationSet:
    try:
        base = KnowledgeBase.open(path)
    except NotFound as error:
        raise InvalidArgument(error.message, field="exclude") from error
    ids, captions, names, rows = set[str](), set[str](), list[str](), list[NDArray[np.uint8]]()
    try:
        for pairs, fingerprints in _in_batches(base, f"reading {path}", with_images=True):
            ids.update(pair.id for pair in pairs)
            captions.update(normalised(pair.caption) for pair in pairs)
            names += fingerprints
            rows += fingerprints.values()
    finally:
        base.close()
    stacked = np.stack(rows) if rows else _NOTHING
    return EvaluationSet(path, base.manifest.revision, frozenset(ids), frozenset(captions - {""}), names, stacked)


def refuse_overlap(base: KnowledgeBase, excluded: EvaluationSet) -> None:
    """Compares every pair of a base with an evaluation set: its id, its caption, its image.

    Raises:
        InvalidArgument: naming how many pairs are in both, by what, and the first few.
    """
    shared: dict[str, list[str]] = defaultdict(list)
    with_images = len(excluded.names) > 0
    for pairs, fingerprints in _in_batches(base, f"comparing with {excluded.path}", with_images=with_images):
        for pair in pairs:
            if pair.id in excluded.ids:
                shared["id"].append(pair.id)
            if normalised(pair.caption) in excluded.captions:
                shared["caption"].append(f"{pair.id}: {pair.caption[:80]}")
        if fingerprints:
            near = near_duplicates(np.stack(list(fingerprints.values())), excluded.fingerprints)
            for name, row in zip(fingerprints, near, strict=True):
                if row.any():
                    shared["image"].append(f"{name} shows {excluded.names[int(row.argmax())]}")
    if shared:
        told = "; ".join(
            f"{len(found):,} by {kind} ({', '.join(found[:_SHOWN])}{', ...' if len(found) > _SHOWN else ''})"
            for kind, found in shared.items()
        )
        raise InvalidArgument(
            f"the knowledge base has pairs of the evaluation set {excluded.path}: {told}. Build it without them",
            field="exclude",
        )


def normalised(caption: str) -> str:
    """The caption's words, without case, punctuation and forms that only look different."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", caption).casefold()))


def _in_batches(
    base: KnowledgeBase, work: str, *, with_images: bool
) -> Iterator[tuple[list[StoredPair], dict[str, NDArray[np.uint8]]]]:
    """All pairs, a batch at a time, and the fingerprints of those whose images can be read, by id."""
    documents = base.index.in_order()
    fingerprints = Fingerprints(base)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress_bar(len(documents), work, "pairs") as progress,
    ):
        for first in range(0, len(documents), _AT_ONCE):
            pairs = [base.index.pair(document) for document in documents[first : first + _AT_ONCE]]
            rows = pool.map(fingerprints.of, pairs) if with_images else ()
            found = {pair.id: row for pair, row in zip(pairs, rows, strict=False) if not isinstance(row, str)}
            yield pairs, found
            progress.update(len(pairs))
