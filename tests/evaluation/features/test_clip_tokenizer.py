"""CLIP's tokens. The comparison with transformers is in parity/."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reimagen_evaluation.features.clip_tokenizer import ClipTokenizer

BYTES = [chr(n) for n in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 256 + 68))]
MERGES = [("i", "n</w>"), ("s", "n"), ("sn", "o"), ("sno", "w</w>")]
PIECES = [*BYTES, *(letter + "</w>" for letter in BYTES), *("".join(pair) for pair in MERGES)]
VOCABULARY = {piece: number for number, piece in enumerate([*PIECES, "<|startoftext|>", "<|endoftext|>"])}
START, END = VOCABULARY["<|startoftext|>"], VOCABULARY["<|endoftext|>"]
TOKENIZER = ClipTokenizer(VOCABULARY, MERGES, 12)


def pieces(text: str, tokenizer: ClipTokenizer = TOKENIZER) -> list[str]:
    [ids], [end] = tokenizer([text])
    assert ids[0] == START
    assert (ids[end:] == END).all()
    return [[*VOCABULARY][number] for number in ids[1:end]]


def test_pairs_are_joined_in_the_order_of_the_list() -> None:
    assert pieces("Snow  in") == ["snow</w>", "in</w>"]
    assert pieces("snowing") == ["sno", "w", "i", "n", "g</w>"]
    assert pieces("") == []


def test_words_are_split_as_by_clip() -> None:
    letters = {"½": ["Â", "½</w>"], "日本": ["æ", "Ĺ", "¥", "æ", "ľ", "¬</w>"]}
    words = ["dog", "'s", "4", "2", "!?", "isn", "'t", "½", "日本"]
    expected = [piece for word in words for piece in letters.get(word, [*word[:-1], f"{word[-1]}</w>"])]
    assert pieces("Dog's 42!? isn't ½ 日本", ClipTokenizer(VOCABULARY, MERGES, 64)) == expected


@settings(deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_has_start_and_end_tokens_and_known_pieces(text: str) -> None:
    [ids], [end] = TOKENIZER([text])
    assert len(ids) == 12
    assert ids[0] == START
    assert ids[end] == END
    assert END not in ids[1:end]  # no byte is unknown


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "cannot read CLIP's tokenizer files"),
        ({"vocab.json": "{}", "merges.txt": "a b c"}, "not all pairs"),
        ({"vocab.json": "{}", "merges.txt": "a b"}, "has no <|startoftext|>".replace("|", r"\|")),
        ({"tokenizer.json": json.dumps({"model": {"vocab": {}}})}, "cannot read CLIP's tokenizer files"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        ClipTokenizer.load(tmp_path, 12)
