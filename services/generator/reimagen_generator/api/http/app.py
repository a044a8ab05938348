"""The REST application."""

import time
from typing import Final

from fastapi import FastAPI

from reimagen_common.errors import NotFound, Unavailable
from reimagen_common.http_errors import Problem, register_error_handlers
from reimagen_generator.api.http.images import images_router
from reimagen_generator.api.http.limits import BodyLimit
from reimagen_generator.api.http.schema import Model, Models
from reimagen_generator.engine.engine import State
from reimagen_generator.generation import Generator

_DESCRIPTION: Final = """
Draws pictures that are grounded on the (image, text) pairs of a knowledge base. `POST /v1/images/generations` speaks
OpenAI's dialect, so that OpenAI's clients work against `/v1`; the answer carries the pairs beside the pictures, and so
does each picture's own file.
"""


def create_app(generator: Generator, *, deadline: float) -> FastAPI:
    """Make the application; a request may take `deadline` seconds."""
    app = FastAPI(title="Re-Imagen", description=_DESCRIPTION, version="1")
    app.add_middleware(BodyLimit)
    register_error_handlers(app)
    app.include_router(images_router(generator, deadline=deadline))
    config = generator.config
    model = Model(
        id=config.name,
        created=int(time.time()),
        sizes=[f"{size}x{size}" for size in generator.engine.cascade.sizes],
        default_k=config.default_k,
        maximum_k=config.maximum_k,
    )

    @app.get("/v1/models", tags=["models"])
    async def list_models() -> Models:
        """List the loaded cascades."""
        return Models(data=[model])

    @app.get("/v1/models/{name}", tags=["models"], responses={404: {"model": Problem}})
    async def read_model(name: str) -> Model:
        """Describe one cascade."""
        if name != model.id:
            raise NotFound(f"there is no model {name!r}; this service draws with {model.id!r}")
        return model

    @app.get("/healthz", tags=["health"])
    async def is_alive() -> dict[str, str]:
        """Answer as long as the process does."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], responses={503: {"model": Problem}})
    async def is_ready() -> dict[str, str]:
        """Answer 200 once the cascade is compiled, and until the service stops."""
        state = generator.engine.state
        if state is not State.READY:
            raise Unavailable(f"the service is {state.value}", retry_after=5)
        return {"status": state.value}

    return app
