"""Configuration of the device mesh."""

import math

from pydantic import BaseModel, ConfigDict, Field


class MeshConfig(BaseModel):
    """Number of devices along each axis of the mesh (see `parallel/mesh.py`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: int | None = Field(
        None, ge=1, description="Devices along `data`; None takes all devices that the other axes leave."
    )
    fsdp: int = Field(1, ge=1, description="Devices along `fsdp`.")
    tensor: int = Field(1, ge=1, description="Devices along `tensor`.")

    def sizes(self, devices: int) -> tuple[int, int, int]:
        """Return the number of devices along `data`, `fsdp` and `tensor`.

        Raises:
            ValueError: The product is not `devices`.
        """
        sizes = (self.data or max(1, devices // (self.fsdp * self.tensor)), self.fsdp, self.tensor)
        if math.prod(sizes) != devices:
            raise ValueError(
                f"mesh: data × fsdp × tensor must be the number of devices, {devices}, "
                f"got {' × '.join(map(str, sizes))}"
            )
        return sizes
