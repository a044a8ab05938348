"""From a sampler's name to the sampler."""

from typing import Any

from reimagen_generator.config.cascade import SamplerKind
from reimagen_generator.diffusion.samplers.ddim import DDIM
from reimagen_generator.diffusion.samplers.ddpm import DDPM
from reimagen_generator.diffusion.samplers.dpm_solver import DPMSolver
from reimagen_generator.diffusion.samplers.sampler import Sampler
from reimagen_generator.diffusion.samplers.unipc import UniPC


def build_sampler(kind: SamplerKind) -> Sampler[Any]:
    """The sampler of that name."""
    match kind:
        case SamplerKind.DDPM:
            return DDPM()
        case SamplerKind.DDIM:
            return DDIM()
        case SamplerKind.DPM_SOLVER:
            return DPMSolver()
        case SamplerKind.UNIPC:
            return UniPC()
