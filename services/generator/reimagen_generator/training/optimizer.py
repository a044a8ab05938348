"""The optimizers, with gradient clipping, warm-up and a cosine decay to a tenth of the peak."""

import optax

from reimagen_generator.training.config import OptimizerKind, TrainingConfig


def learning_rate(config: TrainingConfig) -> optax.Schedule:
    """Return the learning rate of each step."""
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.steps, 0.1 * config.learning_rate
    )


def build_optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """Return the optimizer of a run.

    Adam stores two numbers for each parameter, Adafactor (arXiv 1804.04235) two for each row and column of a matrix.
    Adafactor's step is not scaled by the parameters' size: parameters that start as zero, such as the last layers of
    retrieval, would hardly move. A learning rate also has the same meaning for both optimizers.
    """
    rate = learning_rate(config)
    match config.optimizer:
        case OptimizerKind.ADAM:
            step = optax.adam(rate, b2=0.99)
        case OptimizerKind.ADAFACTOR:
            step = optax.adafactor(rate, multiply_by_parameter_scale=False)
    return optax.chain(optax.clip_by_global_norm(config.gradient_clip), step)
