"""The operator's policy: which prompts are drawn, and which pairs may be neighbors or become pairs of the base."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from reimagen.v1 import retrieval_pb2
from reimagen_common.errors import ContentPolicyViolation, Unavailable
from reimagen_generator import metrics
from reimagen_generator.generation.request import GenerationRequest
from reimagen_generator.generation.retriever_client import Neighbor, Neighbors, RefusedPair
from reimagen_generator.moderation.blocklist import Blocklist
from reimagen_generator.moderation.hook import Hook, Question

_ALL_REFUSED: Final = retrieval_pb2.NothingFound(
    reason="the operator of this service allows none of the neighbors; `refused` says why", field="prompt"
)

_logger = logging.getLogger(__name__)


class Pair(Protocol):
    """What the policy judges of a pair."""

    @property
    def caption(self) -> str:
        """The caption."""
        ...

    @property
    def source(self) -> str:
        """The origin of the image; empty when unknown."""
        ...

    @property
    def license(self) -> str:
        """The license; empty when unknown."""
        ...

    @property
    def image(self) -> bytes:
        """The image file."""
        ...


class Policy:
    """The blocklist and the hook. By default everything is allowed."""

    def __init__(self, blocklist: Blocklist | None = None, hook: Hook | None = None, *, required: bool = True) -> None:
        """Create the policy.

        Args:
            blocklist: The words and phrases that no prompt and no caption may contain.
            hook: The hook that is asked about each prompt and each pair that the blocklist allows.
            required: Whether requests fail while the hook does not answer. If not, its verdict is then "allowed".
        """
        self._blocklist = blocklist
        self._hook = hook
        self._required = required

    def check_prompt(self, request: GenerationRequest, *, remaining: float) -> None:
        """Check the prompt and the negative prompt, toward which guidance leads if its `text_weight` is below 1.

        Raises:
            ContentPolicyViolation: The policy refuses one of them. The error names it.
            Unavailable: The hook does not answer.
        """
        texts = {"prompt": request.prompt}
        if request.negative_prompt:
            texts["negative_prompt"] = request.negative_prompt
        for field, text in texts.items():
            if phrase := self._blocked(text):
                metrics.MODERATED.labels("prompt", "refused").inc()
                raise ContentPolicyViolation(_containing(phrase), field=field)
        (reason,) = self._asked("prompt", [texts], remaining)
        if reason is not None:
            raise ContentPolicyViolation(reason, field="prompt")

    def check_references(self, neighbors: Sequence[Neighbor], *, remaining: float) -> None:
        """Check the references of a request.

        Args:
            neighbors: All references, in the order of the request.
            remaining: Seconds until the deadline of the request.

        Raises:
            ContentPolicyViolation: The policy refuses a reference. The error names it.
            Unavailable: The hook does not answer.
        """
        for index, reason in enumerate(self.reasons(neighbors, remaining=remaining)):
            if reason is not None:
                field = f"references.{index}.{'pair_id' if neighbors[index].id else 'caption'}"
                raise ContentPolicyViolation(reason, field=field)

    def permitted(self, found: Neighbors, *, remaining: float) -> Neighbors:
        """Return the neighbors that the policy allows, and which others it refuses.

        Raises:
            Unavailable: The hook does not answer.
        """
        reasons = self.reasons(found.neighbors, remaining=remaining)
        refused = tuple(
            RefusedPair(neighbor.id, reason)
            for neighbor, reason in zip(found.neighbors, reasons, strict=True)
            if reason is not None
        )
        if not refused:
            return found
        allowed = tuple(neighbor for neighbor, reason in zip(found.neighbors, reasons, strict=True) if reason is None)
        return replace(found, neighbors=allowed, refused=refused, nothing_found=None if allowed else _ALL_REFUSED)

    @property
    def reads_images(self) -> bool:
        """Whether verdicts depend on more than captions, so that the pairs need their images."""
        return self._hook is not None

    def reasons(self, pairs: Sequence[Pair], *, remaining: float) -> list[str | None]:
        """Return why each pair is refused, or None if it is allowed.

        Raises:
            Unavailable: The hook does not answer.
        """
        reasons: list[str | None] = []
        for pair in pairs:
            phrase = self._blocked(pair.caption)
            reasons.append(phrase and _containing(phrase))
        metrics.MODERATED.labels("pair", "refused").inc(sum(reason is not None for reason in reasons))
        open_ones = [index for index, reason in enumerate(reasons) if reason is None]
        questions = [
            {name: getattr(pairs[index], name) for name in ("caption", "source", "license", "image")}
            for index in open_ones
        ]
        for index, reason in zip(open_ones, self._asked("pair", questions, remaining), strict=True):
            reasons[index] = reason
        return reasons

    def _blocked(self, text: str) -> str | None:
        return self._blocklist.find(text) if self._blocklist else None

    def _asked(self, kind: str, fields: Sequence[dict[str, Any]], remaining: float) -> list[str | None]:
        """Return the hook's reasons against prompts or pairs, None for those that it allows."""
        if self._hook is None or not fields:
            return [None] * len(fields)
        questions: list[Question] = [{"kind": kind, **each} for each in fields]
        try:
            verdicts = self._hook.ask(questions, remaining=remaining)
        except Unavailable as error:
            metrics.MODERATED.labels(kind, "failed").inc(len(questions))
            if self._required:
                raise
            _logger.warning("moderation failed", extra={"kind": kind, "reason": error.message})
            return [None] * len(questions)
        for verdict in verdicts:
            metrics.MODERATED.labels(kind, "allowed" if verdict.allowed else "refused").inc()
        return [None if verdict.allowed else _not_allowed(verdict.reason) for verdict in verdicts]


def _containing(phrase: str) -> str:
    return f"contains {phrase!r}, which the operator of this service does not allow"


def _not_allowed(reason: str) -> str:
    return f"is not allowed by the operator of this service{': ' if reason else ''}{reason}"
