"""The client of the gRPC API. It needs `pip install 'reimagen-client[grpc]'`."""

import os
from collections.abc import Generator
from typing import Final, Self, Unpack

import grpc

from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_client.grpc_messages import from_rpc, request_message, retrieved
from reimagen_client.models import (
    Done,
    Event,
    Generation,
    Image,
    Preview,
    Progress,
    Retrieved,
)
from reimagen_client.options import Options
from reimagen_client.settings import DEFAULT_GRPC, TIMEOUT_SECONDS, check_key

_MESSAGE_BYTES: Final = 96 * 1024 * 1024


class GrpcClient:
    """A client of the gRPC API. Use it as a context manager; closing it cancels its calls. Threads may share it."""

    def __init__(
        self,
        target: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Create the client, without connecting.

        Args:
            target: host:port of the service. None: REIMAGEN_GRPC, or 127.0.0.1:50052.
            api_key: Key for the service. None: REIMAGEN_API_KEY.
            timeout: Seconds that a call may take.
            credentials: TLS credentials of the channel. None: no TLS.

        Raises:
            InvalidRequest: The key is invalid.
        """
        target = target or os.environ.get("REIMAGEN_GRPC") or DEFAULT_GRPC
        key = check_key(api_key or os.environ.get("REIMAGEN_API_KEY"))
        options = [
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ]
        self._channel = (
            grpc.secure_channel(target, credentials, options=options)
            if credentials
            else grpc.insecure_channel(target, options=options)
        )
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._timeout = timeout
        self._stub = GenerationStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel. The service cancels what it draws for open calls."""
        self._channel.close()

    def generate(self, prompt: str, **options: Unpack[Options]) -> Generation:
        """Draw images of a prompt, and return them when all are finished.

        Raises:
            ReimagenError: The call failed.
        """
        found, images = Retrieved(), []
        for event in self.stream(prompt, **options):
            match event:
                case Retrieved():
                    found = event
                case Done():
                    images.append(event.image)
        images.sort(key=lambda image: image.index)
        seed = images[0].seed if images else None
        return Generation(**dict(found) | {"images": tuple(images), "seed": seed})

    def stream(self, prompt: str, *, previews: int = 0, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Draw images of a prompt, and yield an event for the neighbors, each step, preview and image.

        Closing the generator, as `contextlib.closing` does, cancels the call.

        Args:
            prompt: Text that says what to draw.
            previews: Number of previews of the unfinished first image, 0 to 3.
            options: Options of the request.

        Raises:
            ReimagenError: The call failed.
        """
        message = request_message(prompt, options, previews)
        call = self._stub.Generate(message, timeout=self._timeout, metadata=self._metadata)
        seed, number = None, 0
        try:
            for event in call:
                match event.WhichOneof("event"):
                    case "accepted":
                        seed = event.accepted.seed
                    case "neighbors":
                        yield retrieved(event.neighbors, seed)
                    case "progress":
                        step = event.progress
                        yield Progress(
                            index=step.index, stage=step.stage, size=step.size, step=step.step, steps=step.steps
                        )
                        if step.HasField("preview"):
                            yield Preview(number=number, content=step.preview)
                            number += 1
                    case "image":
                        drawn = event.image
                        yield Done(image=Image(index=drawn.index, seed=drawn.seed, content=drawn.image, prompt=prompt))
        except grpc.RpcError as error:
            raise from_rpc(error) from error
        finally:
            call.cancel()
