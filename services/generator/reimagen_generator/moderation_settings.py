"""The settings of what the operator does not allow."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class ModerationSettings(BaseSettings):
    """Settings of the blocklist and of the moderation hook."""

    blocklist: Path | None = Field(
        None,
        description="File of words and phrases, one in each line, that no prompt and no caption of a neighbor may "
        "contain. It is read at the start. Unset: all are allowed.",
    )
    moderation_hook: str | None = Field(
        None,
        min_length=1,
        description="What is asked whether each prompt and each pair is allowed: the URL of an HTTP endpoint, or a "
        "Python function as module:function. Unset: nothing is asked.",
    )
    moderation_api_key: SecretStr | None = Field(
        None, description="API key of the endpoint in moderation_hook, sent as a bearer token. Unset: it requires none."
    )
    moderation_seconds: float = Field(5, gt=0, le=60, description="Seconds in which moderation_hook must answer.")
    moderation_required: bool = Field(
        True,
        description="Whether requests are refused while moderation_hook does not answer. If not, prompts and pairs are "
        "then allowed, and the log has a warning.",
    )
