"""DDIM, the first-order deterministic sampler."""

from reimagen_generator.diffusion.samplers.sampler import Images, Step
from reimagen_generator.diffusion.schedule import alpha_sigma, per_image


class DDIM:
    """DDIM with η = 0 (arXiv 2010.02502, eq. 12): x_s = α_s x_0 + σ_s ε."""

    def initialize(self, x: Images) -> None:
        """Return no carry, since a step does not depend on others."""

    def step(self, carry: None, step: Step) -> tuple[Images, None]:
        """Return x_s."""
        alpha, sigma = map(per_image, alpha_sigma(step.log_snr_s))
        return alpha * step.x_0 + sigma * step.epsilon, None
