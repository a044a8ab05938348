"""The loss against NumPy, with networks of known outputs."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from reimagen_generator.config.cascade import Prediction, StageConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.resize import downsample, upsample
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Text
from reimagen_generator.training.config import TrainingConfig, X0Loss
from reimagen_generator.training.loss import Batch, Draws, draw, loss_by_row

IMAGES, DRAWS, K, SIDE = 2, 3, 2, 4
ROWS = IMAGES * DRAWS
# The last rows' noise is so weak that the weight of x_0's error, 1/σ², reaches its limit.
TIMES = np.array([0.9, 0.6, 0.5, 0.3, 0.1, 0.05], np.float32)

Pixels = npt.NDArray[np.float32]


class Known:
    """A network that returns a given image, and records its inputs."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.encoded = 0

    def __call__(
        self, x: Any, time: Any, text: Text, neighbors: Neighbors | None, low_resolution: LowResolution | None
    ) -> Any:
        self.x, self.time, self.text, self.low_resolution = x, time, text, low_resolution
        self.neighbors: Any = neighbors
        return self.answer(np.asarray(x)) if callable(self.answer) else self.answer

    def encode_neighbors(self, images: Any, text: Text, mask: Any, low_resolution: Any) -> Neighbors:
        self.encoded += images.shape[0] * images.shape[1]
        return Neighbors({"1": images.mean(axis=(2, 3, 4))}, mask)


def stage(kind: Prediction, index: int = 0) -> StageConfig:
    return TINY.stages[index].model_copy(update={"prediction": kind})


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def batch(rng: np.random.Generator) -> Batch:
    def texts(count: int) -> Text:
        return Text(jnp.zeros((count, 5, 8)), jnp.asarray(rng.random((count, 5)) < 0.7))

    def pictures(*shape: int) -> jax.Array:
        return jnp.asarray(rng.integers(0, 256, (*shape, SIDE, SIDE, 3)), jnp.uint8)

    mask = jnp.asarray([[True, True], [True, False]])
    return Batch(pictures(IMAGES), texts(IMAGES), pictures(IMAGES, K), texts(IMAGES * K), mask)


@pytest.fixture
def draws(rng: np.random.Generator) -> Draws:
    shape = (ROWS, SIDE, SIDE, 3)
    return Draws(
        time=jnp.asarray(TIMES),
        noise=jnp.asarray(rng.standard_normal(shape), jnp.float32),
        augmentation=jnp.linspace(0.0, 0.5, ROWS),
        augmentation_noise=jnp.asarray(rng.standard_normal(shape), jnp.float32),
        keep_text=jnp.asarray([True, False] * DRAWS),
        keep_neighbors=jnp.asarray([[True, True], [False, True], [False, False]] * IMAGES),
    )


def parts(batch: Batch, draws: Draws) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Return x_0, ε, α and σ of each row: the cosine schedule is α = cos(πt/2)."""
    x_0 = np.repeat(np.asarray(batch.image, np.float32) / 127.5 - 1, DRAWS, axis=0)
    angle = (np.pi / 2 * TIMES)[:, None, None, None]
    return x_0, np.asarray(draws.noise), np.cos(angle), np.sin(angle)


def loss(network: Known, config: StageConfig, batch: Batch, draws: Draws, factor: int | None = None) -> Pixels:
    return np.asarray(loss_by_row(network, config, factor, batch, draws))  # type: ignore[arg-type]


def test_the_network_receives_the_noised_image(batch: Batch, draws: Draws) -> None:
    network = Known(np.zeros((ROWS, SIDE, SIDE, 3), np.float32))
    loss(network, stage(Prediction.V), batch, draws)
    x_0, noise, alpha, sigma = parts(batch, draws)
    np.testing.assert_allclose(network.x, alpha * x_0 + sigma * noise, atol=1e-5)
    np.testing.assert_allclose(network.time, TIMES)


def test_the_target_of_a_v_prediction_is_v(batch: Batch, draws: Draws, rng: np.random.Generator) -> None:
    answer = rng.standard_normal((ROWS, SIDE, SIDE, 3)).astype(np.float32)
    x_0, noise, alpha, sigma = parts(batch, draws)
    expected = ((answer - (alpha * noise - sigma * x_0)) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(loss(Known(answer), stage(Prediction.V), batch, draws), expected, rtol=1e-4)


def test_the_error_of_x0_is_weighted_by_its_clipped_inverse_variance(
    batch: Batch, draws: Draws, rng: np.random.Generator
) -> None:
    answer = rng.standard_normal((ROWS, SIDE, SIDE, 3)).astype(np.float32)
    x_0, _, _, sigma = parts(batch, draws)
    weight = np.minimum(sigma[:, 0, 0, 0] ** -2, 25)
    assert (weight == 25).any()
    expected = weight * ((answer - x_0) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(loss(Known(answer), stage(Prediction.X0), batch, draws), expected, rtol=1e-4)


def test_charbonniers_loss_is_quadratic_for_small_and_linear_for_large_errors(batch: Batch, draws: Draws) -> None:
    x_0, _, _, _ = parts(batch, draws)
    for difference, expected in ((0.5, 0.5001), (0.001, 0.01005)):
        given = stage(Prediction.X0), None, batch, draws, X0Loss.CHARBONNIER
        losses = loss_by_row(Known(x_0 - difference), *given)  # type: ignore[arg-type]
        np.testing.assert_allclose(losses, np.full(ROWS, expected), rtol=1e-4)


def test_the_same_prediction_has_the_same_loss_as_x0_and_as_v(
    batch: Batch, draws: Draws, rng: np.random.Generator
) -> None:
    """Both predict the same image: v = (α x_t - x_0) / σ. Below the weight's limit the losses are equal."""
    answer = rng.standard_normal((ROWS, SIDE, SIDE, 3)).astype(np.float32)
    _, _, alpha, sigma = parts(batch, draws)
    as_x0 = loss(Known(answer), stage(Prediction.X0), batch, draws)
    as_v = loss(Known(lambda x: (alpha * x - answer) / sigma), stage(Prediction.V), batch, draws)
    unlimited = sigma[:, 0, 0, 0] ** -2 < 25
    assert unlimited.sum() == 4
    np.testing.assert_allclose(as_x0[unlimited], as_v[unlimited], rtol=1e-3)


def test_dropped_conditions_are_masked_and_others_are_not(batch: Batch, draws: Draws) -> None:
    network = Known(np.zeros((ROWS, SIDE, SIDE, 3), np.float32))
    loss(network, stage(Prediction.V), batch, draws)
    for row in range(ROWS):
        picture = row // DRAWS
        text = np.asarray(batch.text.mask)[picture] & bool(draws.keep_text[row])
        np.testing.assert_array_equal(network.text.mask[row], text)
        neighbors = np.asarray(batch.neighbor_mask)[picture] & np.asarray(draws.keep_neighbors)[row]
        np.testing.assert_array_equal(network.neighbors.mask[row], neighbors)
        mean = np.asarray(batch.neighbor_images, np.float32)[picture].mean(axis=(1, 2, 3)) / 127.5 - 1
        np.testing.assert_allclose(network.neighbors.levels["1"][row], mean, atol=1e-5)
    # Neighbors are encoded once an image, not once a draw.
    assert network.encoded == IMAGES * K


def test_a_distractor_is_the_next_images_neighbor_where_both_have_one(batch: Batch, draws: Draws) -> None:
    """The first image has two neighbors, the second one, which the first image's neighbor replaces."""
    network = Known(np.zeros((ROWS, SIDE, SIDE, 3), np.float32))
    distracted = dataclasses.replace(draws, distracted=jnp.asarray([[True, True], [True, True]]))
    loss(network, stage(Prediction.V), batch, distracted)
    mean = np.asarray(batch.neighbor_images, np.float32).mean(axis=(2, 3, 4)) / 127.5 - 1
    seen = np.array([[mean[1, 0], mean[0, 1]], [mean[0, 0], mean[1, 1]]])
    np.testing.assert_allclose(network.neighbors.levels["1"], np.repeat(seen, DRAWS, axis=0), atol=1e-5)
    plain = Known(network.answer)
    loss(plain, stage(Prediction.V), batch, draws)
    np.testing.assert_array_equal(network.neighbors.mask, plain.neighbors.mask)


def test_a_super_resolution_stage_receives_the_augmented_low_resolution_image(batch: Batch, draws: Draws) -> None:
    network = Known(np.zeros((ROWS, SIDE, SIDE, 3), np.float32))
    loss(network, stage(Prediction.V, index=1), batch, draws, factor=2)
    x_0, _, _, _ = parts(batch, draws)
    level = np.asarray(draws.augmentation)
    # The schedule's log-SNR is clipped to 15: a level of 0 is not quite free of noise.
    alpha, sigma = np.cos(np.pi / 2 * level), np.maximum(np.sin(np.pi / 2 * level), np.exp(-7.5))
    low_res = np.asarray(upsample(downsample(jnp.asarray(x_0), 2), 2))
    expected = alpha[:, None, None, None] * low_res + sigma[:, None, None, None] * np.asarray(draws.augmentation_noise)
    assert network.low_resolution is not None
    np.testing.assert_allclose(network.low_resolution.image, expected, atol=1e-4)
    np.testing.assert_allclose(network.low_resolution.augmentation, level)


def test_a_given_low_resolution_image_is_upsampled(batch: Batch, draws: Draws) -> None:
    network = Known(np.zeros((ROWS, SIDE, SIDE, 3), np.float32))
    given = dataclasses.replace(batch, low_res=jnp.full((IMAGES, SIDE // 2, SIDE // 2, 3), 51, jnp.uint8))
    clean = dataclasses.replace(draws, augmentation=jnp.zeros(ROWS))
    loss(network, stage(Prediction.X0, index=1), given, clean, factor=2)
    assert network.low_resolution is not None
    np.testing.assert_allclose(network.low_resolution.image, 51 / 127.5 - 1, atol=4e-3)


def test_the_low_resolution_image_is_blurred_before_noise_is_added(batch: Batch, draws: Draws) -> None:
    network = Known(np.zeros((ROWS, SIDE, SIDE, 3), np.float32))
    deviation = np.linspace(0.0, 1.5, ROWS, dtype=np.float32)
    blurred = dataclasses.replace(draws, augmentation=jnp.zeros(ROWS), blur=jnp.asarray(deviation))
    loss(network, stage(Prediction.X0, index=1), batch, blurred, factor=2)
    x_0, _, _, _ = parts(batch, draws)
    low_res = np.asarray(downsample(jnp.asarray(x_0), 2))
    expected = [
        gaussian_filter(image, (sigma, sigma, 0), mode="nearest", radius=(4, 4, 0)) if sigma else image
        for image, sigma in zip(low_res, deviation, strict=True)
    ]
    # The schedule's log-SNR is clipped to 15: a level of 0 is not quite free of noise.
    noise = np.exp(-7.5) * np.asarray(draws.augmentation_noise)
    assert network.low_resolution is not None
    np.testing.assert_allclose(
        network.low_resolution.image, upsample(jnp.asarray(np.stack(expected)), 2) + noise, atol=1e-5
    )


def test_noise_before_upsampling_is_as_strong_and_keeps_the_contrast(batch: Batch, draws: Draws) -> None:
    network = Known(np.zeros((ROWS, SIDE, SIDE, 3), np.float32))
    noising = stage(Prediction.X0, index=1).model_copy(update={"augment_before_upsampling": True})
    loss(network, noising, batch, draws, factor=2)
    x_0, _, _, _ = parts(batch, draws)
    level = np.pi / 2 * np.linspace(0.0, 0.5, ROWS)[:, None, None, None]
    squares = np.asarray(draws.augmentation_noise).reshape(ROWS, SIDE // 2, 2, SIDE // 2, 2, 3)
    noised = downsample(jnp.asarray(x_0), 2) + np.tan(level) * squares.sum(axis=(2, 4)) / 2
    assert network.low_resolution is not None
    np.testing.assert_allclose(network.low_resolution.image, upsample(noised, 2), atol=2e-3)


def config(**changed: Any) -> TrainingConfig:
    nothing = dict.fromkeys(["drop_text", "drop_neighbors", "drop_both", "drop_each_neighbor"], 0.0)
    values = {"preset": "tiny", "stage": 0, "data": ".", "output": ".", "weights": ".", "steps": 2, "warmup_steps": 1}
    return TrainingConfig.model_validate({**values, "batch_size": IMAGES, "draws": 5000, **nothing, **changed})


def drawn(batch: Batch, **changed: Any) -> Draws:
    small = dataclasses.replace(batch, image=batch.image[:, :1, :1])
    return draw(jax.random.key(0), config(**changed), small)


def test_nothing_is_dropped_by_default(batch: Batch) -> None:
    draws = drawn(batch)
    assert draws.keep_text.all()
    assert draws.keep_neighbors.all()


@pytest.mark.parametrize(
    ("changed", "text", "neighbors"),
    [
        ({"drop_text": 1.0}, False, True),
        ({"drop_neighbors": 1.0}, True, False),
        ({"drop_both": 1.0}, False, False),
        ({"drop_each_neighbor": 1.0}, True, False),
    ],
)
def test_each_kind_of_dropping_drops_its_condition(
    batch: Batch, changed: dict[str, float], text: bool, neighbors: bool
) -> None:
    draws = drawn(batch, **changed)
    assert (np.asarray(draws.keep_text) == text).all()
    assert (np.asarray(draws.keep_neighbors) == neighbors).all()


def test_the_kinds_of_dropping_exclude_each_other_and_have_their_shares(batch: Batch) -> None:
    draws = drawn(batch, drop_text=0.1, drop_neighbors=0.2, drop_both=0.05)
    text, neighbors = np.asarray(draws.keep_text), np.asarray(draws.keep_neighbors)
    assert (neighbors.any(axis=1) == neighbors.all(axis=1)).all()
    kept = neighbors.any(axis=1)
    shares = [(~text & kept).mean(), (text & ~kept).mean(), (~text & ~kept).mean()]
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.05], atol=0.015)  # five deviations of 10,000 draws


def test_single_neighbors_are_dropped_independently(batch: Batch) -> None:
    kept = np.asarray(drawn(batch, drop_each_neighbor=0.3).keep_neighbors)
    shares = [kept.mean(), (kept[:, 0] & kept[:, 1]).mean(), (~kept[:, 0] & ~kept[:, 1]).mean()]
    np.testing.assert_allclose(shares, [0.7, 0.49, 0.09], atol=0.025)


def test_every_number_of_neighbors_occurs(batch: Batch) -> None:
    kept = np.asarray(drawn(batch, neighbors=4, drop_neighbors=0.1, drop_each_neighbor=0.1).keep_neighbors)
    assert set(kept.sum(axis=1)) == {0, 1, 2, 3, 4}


def test_one_neighbor_of_each_image_is_rarely_distracted(batch: Batch) -> None:
    pictures = 20_000
    mask = np.tile([[True, True, True], [False, True, False]], (pictures // 2, 1))
    many = dataclasses.replace(batch, image=jnp.zeros((pictures, 1, 1, 3), jnp.uint8), neighbor_mask=jnp.asarray(mask))
    draws = draw(jax.random.key(0), config(batch_size=pictures, draws=1, neighbors=3, distractors=0.4), many)
    assert draws.distracted is not None
    distracted = np.asarray(draws.distracted)
    three, one = distracted[::2], distracted[1::2, 1]
    # Five deviations of 10,000 draws. One of the three has a share of 0.04 and the others of 0.4.
    np.testing.assert_allclose(three.mean(axis=0), (0.04 + 2 * 0.4) / 3, atol=0.025)
    np.testing.assert_allclose(three.all(axis=1).mean(), 0.04 * 0.4**2, atol=0.004)
    np.testing.assert_allclose(one.mean(), 0.04, atol=0.01)


def test_times_are_stratified_and_the_exponent_skews_them(batch: Batch) -> None:
    even, bent = np.asarray(drawn(batch).time), np.asarray(drawn(batch, time_exponent=0.5).time)
    rows = len(even)
    # One time in each share of [0, 1]; float32 may round the last of a share up.
    np.testing.assert_allclose(np.sort(even), (np.arange(rows) + 0.5) / rows, atol=0.51 / rows)
    np.testing.assert_allclose(bent, np.sqrt(even), rtol=1e-5)
    assert np.argsort(even).tolist() != list(range(rows))


def test_blur_is_drawn_up_to_its_maximum_if_there_is_one(batch: Batch) -> None:
    deviation = np.asarray(drawn(batch, maximum_blur=1.0).blur)
    assert deviation.min() >= 0
    assert 0.95 < deviation.max() <= 1.0
    assert drawn(batch).blur is None


def test_the_augmentation_level_stays_below_its_maximum(batch: Batch) -> None:
    level = np.asarray(drawn(batch, maximum_augmentation=0.3).augmentation)
    assert level.min() >= 0
    assert 0.29 < level.max() <= 0.3
