from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken

from ptv2_cli.inputs import words
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.ragged import Ragged
from ptv2_cli.inputs.words import WordTable, reads_words_alone

TEXTS = [
    "the cat sat on the mat . who sat ?",
    "a  b",
    "",
    " lead",
    "tail ",
    "the\tcat\nsat",
    "[SEP] the [MASK] cat[SEP]sat",
    "café e\u0301 \u0301x 中文 the\u00a0cat \u3000sat",
    "the\x1c\x85cat \u200b sat",
    "cat" * 60,
    "😀the cat's can't-stop İstanbul ΣΑΣ",
]


def test_a_text_has_the_tokens_of_its_words(wordpiece: Any) -> None:
    assert reads_words_alone(wordpiece.backend_tokenizer)
    encoder = Encoder(wordpiece, 16)
    expected = wordpiece(TEXTS, add_special_tokens=False)["input_ids"]
    for _ in range(2):  # the second time from the table
        assert encoder.tokenize(TEXTS) == expected


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
def test_a_tokenizer_that_reads_spaces_reads_whole_texts(name: str, request: Any) -> None:
    tokenizer = request.getfixturevalue(name)
    assert not reads_words_alone(tokenizer.backend_tokenizer)
    expected = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    assert Encoder(tokenizer, 16).tokenize(TEXTS) == expected


@pytest.mark.parametrize("added", [AddedToken("the cat"), AddedToken("zz", lstrip=True)])
def test_added_tokens_that_reach_over_spaces_are_read_in_whole_texts(
    added: AddedToken, wordpiece: Any
) -> None:
    import copy

    tokenizer = copy.deepcopy(wordpiece)
    tokenizer.add_tokens([added])
    assert not reads_words_alone(tokenizer.backend_tokenizer)
    expected = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    assert Encoder(tokenizer, 16).tokenize(TEXTS) == expected


def test_a_word_is_tokenized_once_while_the_table_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def tokenize(texts: Any) -> Ragged:
        read.extend(texts)
        return Ragged.of([[ord(letter) for letter in text] for text in texts])

    table = WordTable(tokenize)

    def look_up(text: str) -> list[list[int]]:
        found = table.look_up(text.split(), len(text.split()))
        return [found[at].tolist() for at in range(len(found))]

    assert look_up("ab c ab") == [[97, 98], [99], [97, 98]]
    assert look_up("c d") == [[99], [100]]
    assert read == ["ab", "c", "d"]
    monkeypatch.setattr(words, "MOST", 2)
    assert look_up("d c") == [[100], [99]]  # it was full, and began anew
    assert read[3:] == ["d", "c"]


def test_a_file_that_cuts_and_pads_does_not_cut_and_pad_here(wordpiece: Any) -> None:
    import copy

    tokenizer = copy.deepcopy(wordpiece)
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    assert Encoder(tokenizer, 16).tokenize(["the cat sat on"]) == [
        wordpiece("the cat sat on", add_special_tokens=False)["input_ids"]
    ]


def test_a_tokenizer_that_changes_texts_first_is_called_itself(wordpiece: Any) -> None:
    import copy

    class Upside(type(wordpiece)):  # type: ignore[misc]
        """Reads every text backwards."""

        def _encode_plus(self, text: Any, *args: Any, **options: Any) -> Any:
            turned = text[::-1] if isinstance(text, str) else [one[::-1] for one in text]
            return super()._encode_plus(turned, *args, **options)

    tokenizer = copy.deepcopy(wordpiece)
    tokenizer.__class__ = Upside
    encoder = Encoder(tokenizer, 16)
    expected = wordpiece("the cat", add_special_tokens=False)["input_ids"]
    assert encoder.tokenize(["tac eht"]) == [expected]
    assert encoder.tokenize_with_offsets(["tac eht"]).ids[0].tolist() == expected
