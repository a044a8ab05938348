"""The settings of signed and marked image files, of their log, and of their verification."""

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings


def user_state() -> Path:
    """Return the folder for what the service must not lose."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "reimagen"


def _check_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"must be a URL that begins with http:// or https://, got {url!r}")
    return url


class SigningSettings(BaseSettings):
    """Settings of C2PA's signatures, of the watermark and of the log of images."""

    signing: bool = Field(
        True,
        description="Whether image files get a signed C2PA manifest. If not, the same request gives the same bytes.",
    )
    watermark: bool = Field(
        True,
        description="Whether images get an imperceptible watermark, by which `/v1/verify` finds them without metadata.",
    )
    state: Path = Field(
        default_factory=user_state,
        description="Folder of what the service keeps: the key that it makes at its first start to sign image files, "
        "and the log of images.",
    )
    image_log: int = Field(
        100_000,
        ge=0,
        le=10_000_000,
        description="Number of drawn images, the latest ones, whose provenance is logged in `state`. For the API key "
        "that drew an image, `/v1/verify` then finds it without metadata. 0: none.",
    )
    image_log_seconds: float = Field(
        7_776_000, gt=0, le=3_153_600_000, description="Seconds for which an image stays in the log of images."
    )
    signing_certificate: Path | None = Field(
        None,
        description="PEM file of the certificate that image files are signed with, followed by those of intermediate "
        "authorities. Unset: a local certificate, which verification reports as untrusted.",
    )
    signing_key: Path | None = Field(
        None, description="PEM file of the private key of signing_certificate, not encrypted."
    )
    timestamp_authority: Annotated[str, AfterValidator(_check_url)] | None = Field(
        None,
        description="URL of an authority of time stamps (RFC 3161), which is asked for each image. Unset: signatures "
        "state no time.",
    )
    trust_anchors: Path | None = Field(
        None,
        description="PEM file of the authorities whose signatures `/v1/verify` reports as trusted. Unset: none.",
    )

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.signing_certificate is None) != (self.signing_key is None):
            raise ValueError("signing_certificate, signing_key: must both be set, or neither")
        return self
