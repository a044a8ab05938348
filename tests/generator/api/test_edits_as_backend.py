"""The client of an image server, against this service's own `images/edits` and `images/generations`."""

import io

import numpy as np
import pytest
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_generator.backends.openai_images import OpenAIImages, Reference, Upstream
from reimagen_generator.config.presets import TINY
from reimagen_generator.engine.request_handle import RequestHandle
from tests.generator.api.conftest import Served


def test_images_are_drawn_from_references(served: Served) -> None:
    size = TINY.stages[-1].size
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(buffer, "PNG")
    references = [Reference(buffer.getvalue(), "image/png", caption) for caption in ("a red panda", "a bench")]
    client = OpenAIImages(Upstream(f"{served.rest.base_url}/v1", TINY.name))
    try:
        drawn = client.draw(RequestHandle(timeout=240), "a red panda on a bench", references, n=2, size=size)
        assert drawn.shape == (2, size, size, 3)
        assert (drawn[0] != drawn[1]).any()
        with pytest.raises(InvalidArgument, match="size"):
            client.draw(RequestHandle(timeout=240), "a bench", references, n=1, size=7)
    finally:
        client.close()
