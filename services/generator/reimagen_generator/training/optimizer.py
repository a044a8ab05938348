"""The optimisers, under a clipped gradient, with warm-up and a cosine down to a tenth of the peak."""

import optax

from reimagen_generator.training.config import OptimizerKind, TrainingConfig


def learning_rate(config: TrainingConfig) -> optax.Schedule:
    """The learning rate of each step."""
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.steps, 0.1 * config.learning_rate
    )


def build_optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """The optimiser of a run.

    Adam keeps two numbers for each parameter, Adafactor (arXiv 1804.04235) two for each row and column of a matrix.
    Adafactor's step is not made relative to the parameters' size: what starts as zero, as retrieval's last layers do,
    would hardly move, and a learning rate means the same to both.
    """
    rate = learning_rate(config)
    match config.optimizer:
        case OptimizerKind.ADAM:
            step = optax.adam(rate, b2=0.99)
        case OptimizerKind.ADAFACTOR:
            step = optax.adafactor(rate, multiply_by_parameter_scale=False)
    return optax.chain(optax.clip_by_global_norm(config.gradient_clip), step)
