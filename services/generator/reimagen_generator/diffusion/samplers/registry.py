"""Construction of a sampler from its name."""

from typing import Any

from reimagen_generator.config.cascade import SamplerKind
from reimagen_generator.diffusion.samplers.ddim import DDIM
from reimagen_generator.diffusion.samplers.ddpm import DDPM
from reimagen_generator.diffusion.samplers.dpm_solver import DPMSolver
from reimagen_generator.diffusion.samplers.sampler import Sampler
from reimagen_generator.diffusion.samplers.unipc import UniPC


def build_sampler(kind: SamplerKind) -> Sampler[Any]:
    """Return the sampler of the given kind."""
    match kind:
        case SamplerKind.DDPM:
            return DDPM()
        case SamplerKind.DDIM:
            return DDIM()
        case SamplerKind.DPM_SOLVER:
            return DPMSolver()
        case SamplerKind.UNIPC:
            return UniPC()
