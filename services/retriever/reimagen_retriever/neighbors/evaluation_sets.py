"""Reject knowledge bases that overlap an evaluation set, because training and evaluation data must be disjoint."""

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
_NO_FINGERPRINTS = np.zeros((0, 192), np.uint8)


@dataclass(frozen=True)
class EvaluationSet:
    """The captions or pairs of an evaluation."""

    path: Path
    digest: str
    """A digest of the content."""
    ids: frozenset[str]
    captions: frozenset[str]
    """The captions after `normalized`."""
    names: Sequence[str]
    """The ids of the images, in the order of `fingerprints`."""
    fingerprints: NDArray[np.uint8]
    """The fingerprints of the images, (images, 192)."""


def read_evaluation_set(path: Path) -> EvaluationSet:
    """Read a UTF-8 file with one caption per line, or the folder of a knowledge base.

    Raises:
        InvalidArgument: The path is neither of these, or the file holds no caption.
        ReimagenError: The knowledge base is damaged.
    """
    if path.is_dir():
        return _of_base(path)
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"cannot read {path} as UTF-8 with one caption per line: {error}", field="exclude"
        ) from error
    captions = frozenset(normalized(line) for line in lines) - {""}
    if not captions:
        raise InvalidArgument(f"{path} holds no captions; write one caption per line", field="exclude")
    return EvaluationSet(path, hashlib.sha256(content).hexdigest(), frozenset(), captions, (), _NO_FINGERPRINTS)


def _of_base(path: Path) -> EvaluationSet:
    try:
        base = KnowledgeBase.open(path)
    except NotFound as error:
        raise InvalidArgument(error.message, field="exclude") from error
    ids, captions, names, rows = set[str](), set[str](), list[str](), list[NDArray[np.uint8]]()
    try:
        for pairs, fingerprints in _in_batches(base, f"reading {path}", with_images=True):
            ids.update(pair.id for pair in pairs)
            captions.update(normalized(pair.caption) for pair in pairs)
            names += fingerprints
            rows += fingerprints.values()
    finally:
        base.close()
    stacked = np.stack(rows) if rows else _NO_FINGERPRINTS
    return EvaluationSet(path, base.manifest.revision, frozenset(ids), frozenset(captions - {""}), names, stacked)


def refuse_overlap(base: KnowledgeBase, excluded: EvaluationSet) -> None:
    """Compare the id, caption and image of every pair of a base with an evaluation set.

    Raises:
        InvalidArgument: Some pairs are in both. The message gives their number by kind and the first few.
    """
    shared: dict[str, list[str]] = defaultdict(list)
    with_images = len(excluded.names) > 0
    for pairs, fingerprints in _in_batches(base, f"comparing with {excluded.path}", with_images=with_images):
        for pair in pairs:
            if pair.id in excluded.ids:
                shared["id"].append(pair.id)
            if normalized(pair.caption) in excluded.captions:
                shared["caption"].append(f"{pair.id}: {pair.caption[:80]}")
        if fingerprints:
            near = near_duplicates(np.stack(list(fingerprints.values())), excluded.fingerprints)
            for name, row in zip(fingerprints, near, strict=True):
                if row.any():
                    shared["image"].append(f"{name} shows {excluded.names[int(row.argmax())]}")
    if shared:
        overlaps = "; ".join(
            f"{len(found):,} by {kind} ({', '.join(found[:_SHOWN])}{', ...' if len(found) > _SHOWN else ''})"
            for kind, found in shared.items()
        )
        raise InvalidArgument(
            f"the knowledge base has pairs of the evaluation set {excluded.path}: {overlaps}. Build it without them",
            field="exclude",
        )


def normalized(caption: str) -> str:
    """Return the words of a caption in lower case, without punctuation and in Unicode normalization form NFKC."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", caption).casefold()))


def _in_batches(
    base: KnowledgeBase, work: str, *, with_images: bool
) -> Iterator[tuple[list[StoredPair], dict[str, NDArray[np.uint8]]]]:
    """Yield all pairs in batches, with the fingerprints by id of the images that can be read."""
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
