"""The text encoder without weights: properties of all texts."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder

ENCODER = HashedNgramEncoder()
WORDS = st.lists(st.text("abcdefghijklmnopqrstuvwxyzäßжλ木0123456789_", min_size=1, max_size=12), max_size=30)


def words_of(text: str) -> npt.NDArray[np.float32]:
    """Return the words' vectors without those of the positions, which are estimated from other words."""
    embedding = ENCODER.encode([text])
    count = int(embedding.mask[0].sum())
    places = [place_of(place) for place in range(count)]
    return np.asarray(embedding.tokens[0, :count] - np.array(places).reshape(count, ENCODER.channels), np.float32)


def place_of(place: int) -> npt.NDArray[np.float64]:
    """0.3 of a sinusoidal code with wavelengths that grow up to a hundredfold."""
    angles = place / 100 ** (np.arange(128) / 127)
    return 0.3 * np.concatenate([np.sin(angles), np.cos(angles)])


def similarity(one: str, other: str) -> float:
    (a,), (b,) = words_of(one), words_of(other)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@settings(deadline=None)
@given(words=WORDS)
def test_each_word_has_a_token_and_long_texts_are_truncated(words: list[str]) -> None:
    embedding = ENCODER.encode([" ".join(words)])
    count = min(len(words), ENCODER.length)
    assert embedding.tokens.shape == (1, ENCODER.length, ENCODER.channels)
    assert embedding.tokens.dtype == np.float32
    assert embedding.mask[0].tolist() == [True] * count + [False] * (ENCODER.length - count)
    assert not embedding.tokens[0, count:].any()
    cut = ENCODER.encode([" ".join(words[: ENCODER.length])])
    assert np.array_equal(embedding.tokens, cut.tokens)


@settings(deadline=None)
@given(words=WORDS)
def test_words_have_unit_variance_at_every_position(words: list[str]) -> None:
    vectors = words_of(" ".join(words))
    np.testing.assert_allclose((vectors**2).mean(axis=1), 1, atol=1e-4)


@settings(deadline=None)
@given(words=WORDS, ends=st.lists(st.sampled_from([" ", "  ", ", ", "! ", "-", "\n"]), min_size=30, max_size=30))
def test_case_and_separators_do_not_matter(words: list[str], ends: list[str]) -> None:
    plain = " ".join(words)
    decorated = "".join(word + end for word, end in zip(words, ends, strict=False))
    # Upper case that cannot be inverted, such as that of ß, is another word.
    shouted = decorated.upper() if decorated.upper().lower() == decorated.lower() else decorated
    one, other = ENCODER.encode([plain]), ENCODER.encode([shouted])
    assert np.array_equal(one.tokens, other.tokens)
    assert np.array_equal(one.mask, other.mask)


@settings(deadline=None)
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_the_encoding_of_a_text_does_not_depend_on_the_batch(texts: list[str]) -> None:
    together = ENCODER.encode(texts)
    for row, text in enumerate(texts):
        alone = ENCODER.encode([text])
        assert np.array_equal(together.tokens[row], alone.tokens[0])
        assert np.array_equal(together.mask[row], alone.mask[0])


def test_an_empty_text_and_a_text_without_words_have_no_token() -> None:
    assert ENCODER.encode([]).tokens.shape == (0, 24, 256)
    assert not ENCODER.encode(["", "?!", "\n"]).mask.any()


def test_the_order_of_words_changes_the_embedding() -> None:
    one, other = ENCODER.encode(["a panda on a violin"]), ENCODER.encode(["a violin on a panda"])
    assert not np.array_equal(one.tokens, other.tokens)


@pytest.mark.parametrize(
    ("one", "other", "stranger"),
    [("panda", "pandas", "violin"), ("strawberry", "strawberries", "locomotive"), ("snow", "snowy", "train")],
)
def test_words_of_one_stem_are_similar(one: str, other: str, stranger: str) -> None:
    assert similarity(one, other) > 0.4
    assert abs(similarity(one, stranger)) < 0.25
    assert similarity(one, one) == pytest.approx(1, abs=1e-6)


def test_unknown_words_are_distinguished() -> None:
    assert abs(similarity("zyzzyva", "quux")) < 0.25


def test_the_shipped_weights_were_trained_on_these_vectors() -> None:
    """The vectors must not change between processes and releases: trained networks depend on them."""
    tokens = ENCODER.encode(["a red panda"]).tokens[0]
    expected = [[0.402, 0.225, -1.928], [1.383, 0.748, 1.138], [-0.190, 0.153, 0.230]]
    np.testing.assert_allclose(tokens[:3, :3], expected, atol=1e-3)
