"""The operator's policy while its hook does not answer."""

import pytest

from reimagen_common.errors import ContentPolicyViolation, Unavailable
from reimagen_generator.generation.policy import Policy
from reimagen_generator.generation.request import GenerationRequest
from reimagen_generator.generation.retriever_client import Neighbor, Neighbors
from reimagen_generator.moderation.blocklist import Blocklist
from reimagen_generator.moderation.hook import Hook

FOUND = Neighbors([Neighbor(b"", "gore", id="1"), Neighbor(b"", "a fox", id="2")], revision="r")


def policy(*, required: bool) -> Policy:
    return Policy(Blocklist(["gore"]), Hook("http://127.0.0.1:1/", seconds=30), required=required)


def test_a_required_hook_fails_the_request() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        policy(required=True).check_prompt(GenerationRequest(prompt="a fox"), remaining=60)
    with pytest.raises(Unavailable, match="cannot be reached"):
        policy(required=True).permitted(FOUND, remaining=60)


def test_without_an_optional_hook_the_blocklist_remains(caplog: pytest.LogCaptureFixture) -> None:
    policy(required=False).check_prompt(GenerationRequest(prompt="a fox"), remaining=60)
    assert "moderation failed" in caplog.text
    with pytest.raises(ContentPolicyViolation, match="prompt: contains 'gore'"):
        policy(required=False).check_prompt(GenerationRequest(prompt="a gore fox"), remaining=60)
    permitted = policy(required=False).permitted(FOUND, remaining=60)
    assert ([one.id for one in permitted.neighbors], [one.id for one in permitted.refused]) == (["2"], ["1"])
