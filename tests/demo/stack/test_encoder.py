"""The demonstration's text encoder, as the retriever reads it."""

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from reimagen_demo.stack import encoder
from reimagen_retriever.index.encoder import Encoder


def test_the_vector_of_a_text_is_the_mean_of_its_tokens(tmp_path: Path) -> None:
    folder = encoder.build(tmp_path)
    package = distribution("wordllama")
    tokenizer = Tokenizer.from_file(str(package.locate_file(encoder.TOKENIZER)))
    table = load_file(str(package.locate_file(encoder.WEIGHTS)))["embedding.weight"].astype(np.float64)
    texts = ["a two-humped camel in the snow", "a fox", "naïve ☃"]
    means = [table[tokenizer.encode(text, add_special_tokens=False).ids].mean(axis=0) for text in texts]
    expected = [mean / np.linalg.norm(mean) for mean in means]
    np.testing.assert_allclose(Encoder(folder).texts(texts, "query"), expected, atol=1e-5)


def test_it_finds_pairs_by_meaning(tmp_path: Path) -> None:
    vectors = Encoder(encoder.build(tmp_path)).texts(["an automobile", "a car", "a carpet", "an autograph"], "query")
    assert int((vectors[1:] @ vectors[0]).argmax()) == 0
