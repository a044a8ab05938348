"""The judge's classifier on data that it learns in seconds: squares of one color on backgrounds of another."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.features.registry import load_features
from reimagen_evaluation.judges.classifier import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Classifier,
    ClassifierConfig,
    TrainedClassifier,
)
from reimagen_evaluation.judges.classifier_training import ClassifierTraining, LabeledImages, train_classifier
from reimagen_evaluation.judges.entity import EntityJudge

CONFIG = ClassifierConfig(
    side=16, widths=(8, 16), entities=("ruby", "emerald", "sapphire"), scenes=("at night", "in the snow")
)
TRAINING = ClassifierTraining(steps=60, batch_size=32, learning_rate=1e-2, save_every=20)
COLORS = np.array([[220, 30, 40], [30, 190, 60], [40, 60, 220]])
GROUNDS = np.array([20, 235])


def batch(number: int, size: int = 32) -> LabeledImages:
    rng = np.random.default_rng(number)
    entities, scenes = rng.integers(3, size=size), rng.integers(2, size=size)
    images = np.zeros((size, 16, 16, 3)) + GROUNDS[scenes][:, None, None, None]
    for image, entity in zip(images, entities, strict=True):
        top, left = rng.integers(1, 7, 2)
        image[top : top + 8, left : left + 8] = COLORS[entity]
    noisy = np.clip(images + rng.normal(0, 8, images.shape), 0, 255)
    return LabeledImages(noisy.astype(np.uint8), entities.astype(np.int32), scenes.astype(np.int32))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedClassifier:
    return train_classifier(CONFIG, TRAINING, batch, tmp_path_factory.mktemp("whole"))


def item(*entities: str, scene: str = "") -> Item:
    return Item("x", "a prompt", entities, scene, "all")


def test_it_learns_to_classify(trained: TrainedClassifier) -> None:
    unseen = batch(10_000, size=100)
    verdicts = trained.verdicts(list(unseen.images))
    assert np.mean([v.entity == CONFIG.entities[e] for v, e in zip(verdicts, unseen.entities, strict=True)]) > 0.95
    assert np.mean([v.scene == CONFIG.scenes[s] for v, s in zip(verdicts, unseen.scenes, strict=True)]) > 0.95
    assert all(0.33 < verdict.entity_probability <= 1 for verdict in verdicts)


def test_larger_images_get_the_same_judgment(trained: TrainedClassifier) -> None:
    images = batch(20_000).images
    large = images.repeat(4, axis=1).repeat(4, axis=2)
    assert trained.verdicts(list(large)) == trained.verdicts(list(images))


class _Stopped(Exception):
    pass


def test_a_resumed_training_gives_the_same_weights(tmp_path: Path, trained: TrainedClassifier) -> None:
    def stops(number: int) -> LabeledImages:
        if number == 50:
            raise _Stopped
        return batch(number)

    with pytest.raises(_Stopped):
        train_classifier(CONFIG, TRAINING, stops, tmp_path)
    seen = []

    def noted(number: int) -> LabeledImages:
        seen.append(number)
        return batch(number)

    again = train_classifier(CONFIG, TRAINING, noted, tmp_path)
    assert seen[0] == 40  # the last step that was saved
    images = batch(10_000).images
    jax.tree.map(np.testing.assert_array_equal, again.logits(images), trained.logits(images))


def test_the_state_of_another_configuration_is_refused(tmp_path: Path) -> None:
    short = ClassifierTraining(steps=10, save_every=10)
    train_classifier(CONFIG, short, batch, tmp_path)
    with pytest.raises(ValueError, match="another configuration; delete it"):
        train_classifier(CONFIG.model_copy(update={"widths": (8, 8)}), short, batch, tmp_path)


def test_saving_and_loading_keeps_the_scores(tmp_path: Path, trained: TrainedClassifier) -> None:
    trained.save(tmp_path, {"accuracy": 0.97})
    again = TrainedClassifier.load(tmp_path)
    assert again.config.facts == {"accuracy": 0.97}
    images = batch(10_000).images
    # Stored in float16.
    np.testing.assert_allclose(again.logits(images).entity, trained.logits(images).entity, atol=0.05)
    network = load_features(tmp_path)
    assert network.features(images).shape == (32, network.channels)


def test_damaged_files_are_refused(tmp_path: Path, trained: TrainedClassifier) -> None:
    trained.save(tmp_path, {})
    config = (tmp_path / CONFIG_FILE).read_text()
    (tmp_path / CONFIG_FILE).write_text(config.replace('"side"', '"edge"'))
    with pytest.raises(ValueError, match="not a judge's configuration"):
        TrainedClassifier.load(tmp_path)
    (tmp_path / CONFIG_FILE).write_text(config.replace('"ruby",', ""))
    with pytest.raises(ValueError, match=r"entity\.directions has shape \(32, 3\), expected \(32, 2\)"):
        TrainedClassifier.load(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"")
    with pytest.raises(ValueError, match="cannot read"):
        TrainedClassifier.load(tmp_path)


def colored(left: int, right: int) -> np.ndarray:
    """Return two squares side by side at night."""
    image = np.full((16, 32, 3), GROUNDS[0], np.uint8)
    image[4:12, 4:12], image[4:12, 20:28] = COLORS[left], COLORS[right]
    return image


def test_scores_of_one_entity(trained: TrainedClassifier) -> None:
    images = list(batch(30_000, size=4).images)
    verdict = trained.verdicts(images)[0]
    other = next(name for name in CONFIG.entities if name != verdict.entity)
    wrong_place = next(name for name in CONFIG.scenes if name != verdict.scene)
    items = [item(verdict.entity, scene=verdict.scene), item(other, scene=verdict.scene)]
    items += [item(verdict.entity, scene=wrong_place), item(verdict.entity)]
    scores = EntityJudge(trained).scores([images[0]] * 4, items)
    np.testing.assert_array_equal(scores["entity"], [1, 0, 1, 1])
    np.testing.assert_array_equal(scores["scene"], [1, 1, 0, np.nan])
    np.testing.assert_array_equal(scores["faithful"], [1, 0, 0, 1])
    assert scores["entity_probability"][0] == pytest.approx(verdict.entity_probability)
    assert np.isnan(scores["one_of_two"]).all()


def test_training_starts_from_another_classifier(trained: TrainedClassifier, tmp_path: Path) -> None:
    short = ClassifierTraining(steps=2, learning_rate=1e-6, save_every=2)
    again = train_classifier(CONFIG, short, batch, tmp_path, trained)
    images = [colored(0, 2), colored(1, 1)]
    assert [verdict.entity for verdict in again.verdicts(images)] == [v.entity for v in trained.verdicts(images)]


def test_images_without_a_scene_do_not_train_the_scene(trained: TrainedClassifier, tmp_path: Path) -> None:
    def without_scene(number: int) -> LabeledImages:
        labeled = batch(number)
        return LabeledImages(labeled.images, labeled.entities, np.full_like(labeled.scenes, -1))

    again = train_classifier(CONFIG, ClassifierTraining(steps=2, save_every=2, weight_decay=0), without_scene, tmp_path)
    before = Classifier(CONFIG, nnx.Rngs(0))
    after = again.network()
    np.testing.assert_array_equal(after.scene.directions[...], before.scene.directions[...])
    assert (np.asarray(after.entity.directions[...]) != np.asarray(before.entity.directions[...])).any()


def test_scores_of_two_entities(trained: TrainedClassifier) -> None:
    both, turned, one, neither = colored(0, 2), colored(2, 0), colored(0, 0), colored(1, 1)
    wanted = item("ruby", "sapphire")
    scores = EntityJudge(trained).scores([both, turned, one, neither], [wanted] * 4)
    np.testing.assert_array_equal(scores["entity"], [1, 1, 0, 0])
    np.testing.assert_array_equal(scores["one_of_two"], [0, 0, 1, 0])
    assert scores["entity_probability"][0] > 0.5 > scores["entity_probability"][2]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (item("opal"), "'opal' of item x is not an entity"),
        (item("ruby", scene="on a hill"), "'on a hill' of item x is not a scene"),
        (item(), "item x must have at least one"),
    ],
)
def test_unknown_entities_are_refused(wanted: Item, message: str) -> None:
    untrained = TrainedClassifier(CONFIG, Classifier(CONFIG, nnx.Rngs(0)))
    with pytest.raises(ValueError, match=message):
        EntityJudge(untrained).scores([np.zeros((16, 16, 3), np.uint8)], [wanted])
