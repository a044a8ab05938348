"""The configuration of the placement network."""

from pydantic import BaseModel, ConfigDict, Field


class PlacementConfig(BaseModel):
    """A placement network (`networks/placement_network.py`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(64, multiple_of=16, description="Side of the references that the network sees, in pixels.")
    image_side: int = Field(
        32, multiple_of=8, description="Side to which the noised image is downsampled for the network, in pixels."
    )
    widths: tuple[int, int, int, int] = Field(
        (16, 32, 64, 96), description="Channels of the matting U-Net's levels, at 1/2 to 1/16 of the side."
    )
    text_width: int = Field(128, description="Channels to which the tokens of prompt and captions are projected.")
    queries: int = Field(8, ge=1, description="Queries that pool the prompt's tokens.")
    width: int = Field(256, description="Channels of the layers that predict placements.")
    text_channels: int = Field(256, description="Width of the text encoder's embeddings.")
    special_tokens: bool = Field(
        False,
        description="Whether the first and the last token of a text are special ones of its encoder, which mention "
        "nothing, such as MiniLM's [CLS] and [SEP].",
    )
