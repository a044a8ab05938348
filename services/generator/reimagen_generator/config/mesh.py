"""How many devices share out what."""

import math

from pydantic import BaseModel, ConfigDict, Field


class MeshConfig(BaseModel):
    """Devices along each axis of the mesh (see `parallel/mesh.py`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: int | None = Field(None, ge=1, description="None for all devices that the other axes leave.")
    fsdp: int = Field(1, ge=1)
    tensor: int = Field(1, ge=1)

    def sizes(self, devices: int) -> tuple[int, int, int]:
        """Devices along `data`, `fsdp` and `tensor`.

        Raises:
            ValueError: they do not make up all devices.
        """
        sizes = (self.data or max(1, devices // (self.fsdp * self.tensor)), self.fsdp, self.tensor)
        if math.prod(sizes) != devices:
            raise ValueError(
                f"mesh: data × fsdp × tensor must be the number of devices, {devices}, "
                f"got {' × '.join(map(str, sizes))}"
            )
        return sizes
