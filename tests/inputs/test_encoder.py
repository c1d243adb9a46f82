from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ptv2_cli.errors import BackboneError, ConfigError
from ptv2_cli.inputs.encoder import Encoder, fit
from ptv2_cli.inputs.layout import Layout
from ptv2_cli.inputs.ragged import Ragged
from ptv2_cli.inputs.template import parse_template


def build(layout: Layout, texts: Mapping[str, Sequence[int]]) -> SimpleNamespace:
    """One input as lists."""
    built = layout.build({name: Ragged.of([ids]) for name, ids in texts.items()})
    return SimpleNamespace(
        input_ids=built.ids[0].tolist(),
        token_type_ids=None if built.types is None else built.types.tolist(),
        slots=None if built.slots is None else built.slots.tolist(),
        mask_at=None if built.mask_at is None else int(built.mask_at[0]),
        starts={name: int(starts[0]) for name, starts in built.starts.items()},
        cls_at=int(built.cls_at[0]),
    )


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(BackboneError, match="no fast tokenizer"):
        Encoder(SimpleNamespace(is_fast=False), 16)


@pytest.mark.parametrize("name", ["wordpiece", "roberta"])
def test_the_frame_is_the_tokenizers_own(name: str, request: Any) -> None:
    tokenizer = request.getfixturevalue(name)
    encoder = Encoder(tokenizer, 64)
    for columns, texts in ((("u",), ["the cat"]), (("u", "v"), ["the cat", "who sat ?"])):
        built = build(
            encoder.layout(columns), dict(zip(columns, encoder.tokenize(texts), strict=True))
        )
        expected = tokenizer(*texts)
        assert built.input_ids == expected["input_ids"]
        assert built.token_type_ids == expected.get("token_type_ids")
        assert built.cls_at == 0


def test_texts_of_a_pair_do_not_grow_together_without_a_separator(gpt2: Any) -> None:
    encoder = Encoder(gpt2, 64)
    layout = encoder.layout(("u", "v"))
    assert [text.spaced for text in layout.texts] == [False, True]
    texts = {"u": encoder.tokenize(["the cat"])[0], "v": encoder.tokenize(["sat"], spaced=True)[0]}
    assert gpt2.decode(build(layout, texts).input_ids) == "the cat sat"


def test_pad_id_without_a_pad_token_is_the_end_of_text(gpt2: Any, roberta: Any) -> None:
    assert gpt2.pad_token_id is None
    assert Encoder(gpt2, 8).pad_id == gpt2.eos_token_id
    assert Encoder(roberta, 8).pad_id == roberta.pad_token_id


def test_only_byte_level_words_need_a_space(wordpiece: Any, roberta: Any) -> None:
    assert not Encoder(wordpiece, 8).needs_space
    encoder = Encoder(roberta, 8)
    assert encoder.needs_space
    assert roberta.convert_ids_to_tokens(encoder.tokenize(["cat"], spaced=True)[0])[0][0] == "Ġ"


def test_offsets_do_not_count_the_space_put_before(roberta: Any) -> None:
    text = "the cat sat"
    for spaced in (False, True):
        pieces = Encoder(roberta, 8).tokenize_with_offsets([text], spaced)
        shown = "".join(text[start:end] for start, end in pieces.offsets)
        assert shown.replace(" ", "") == "thecatsat"
        assert pieces.offsets[0, 0] == 0


@pytest.mark.parametrize("name", ["wordpiece", "roberta"])
def test_words_are_tokenized_as_pre_split_ones(name: str, request: Any) -> None:
    tokenizer = request.getfixturevalue(name)
    sentences = [["the", "cats", "sat"], ["Ann", "lives", "in", "New", "York"]]
    for sentence in sentences:
        found = Encoder(tokenizer, 32).tokenize_words(sentence)
        text = " " + " ".join(sentence) if name == "roberta" else " ".join(sentence)
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert found.values.tolist() == expected
        assert len(found) == len(sentence)


def test_a_word_that_vanishes_becomes_the_unknown_token(wordpiece: Any) -> None:
    words = Encoder(wordpiece, 32).tokenize_words(["cat", "\u200b", "sat"])
    assert words[1].tolist() == [wordpiece.unk_token_id]
    assert words.lengths.tolist() == [1, 1, 1]


def test_max_len_must_leave_room(wordpiece: Any) -> None:
    with pytest.raises(ConfigError, match=r"task\.max_len: 3 tokens leave no room"):
        Encoder(wordpiece, 3).layout(("u", "v"))


def test_template_layout(wordpiece: Any) -> None:
    template = parse_template("{p:2} {u} ? {p:3} {v} {mask}", ("u", "v"))
    encoder = Encoder(wordpiece, 16, template=template)
    layout = encoder.layout(("u", "v"))
    cat, sat, question = (wordpiece.convert_tokens_to_ids(token) for token in ("cat", "sat", "?"))
    built = build(layout, {"u": [cat, cat], "v": [sat]})
    pad, cls, sep, mask = (
        wordpiece.pad_token_id,
        wordpiece.cls_token_id,
        wordpiece.sep_token_id,
        wordpiece.mask_token_id,
    )
    assert built.input_ids == [cls, pad, pad, cat, cat, question, pad, pad, pad, sat, mask, sep]
    assert built.slots == [-1, 0, 1, -1, -1, -1, 2, 3, 4, -1, -1, -1]
    assert built.token_type_ids == [0] * 12
    assert built.mask_at == 10
    assert built.starts == {"u": 3, "v": 9}
    # [CLS], "?", [MASK] and [SEP] count towards max_len; the five slots do not.
    assert layout.overhead == 4


def test_template_words_of_byte_level_tokenizers_keep_their_spaces(roberta: Any) -> None:
    template = parse_template("{p:1} {u} is {v}", ("u", "v"))
    encoder = Encoder(roberta, 32, template=template)
    layout = encoder.layout(("u", "v"))
    assert [text.spaced for text in layout.texts] == [True, True]
    texts = {
        "u": encoder.tokenize(["Ann"], True)[0],
        "v": encoder.tokenize(["big"], True)[0],
    }
    built = build(layout, texts)
    text = [i for i, slot in zip(built.input_ids, built.slots or [], strict=True) if slot < 0]
    assert roberta.decode(text, skip_special_tokens=True) == " Ann is big"
    assert built.token_type_ids is None


def test_a_mask_needs_a_mask_token(gpt2: Any) -> None:
    with pytest.raises(ConfigError, match="no mask token"):
        Encoder(gpt2, 16, template=parse_template("{p:1} {u} {mask}", ("u",)))


def test_a_template_shows_every_column(wordpiece: Any) -> None:
    encoder = Encoder(wordpiece, 16, template=parse_template("{p:1} {u}", ("u", "v")))
    with pytest.raises(ConfigError, match=r"leaves out \{v\}"):
        encoder.layout(("u", "v"))


def test_without_cls_the_first_text_token_stands_for_no_answer(gpt2: Any) -> None:
    encoder = Encoder(gpt2, 16, template=parse_template("{p:2} {u}", ("u",)))
    built = build(encoder.layout(("u",)), {"u": [7, 8]})
    assert built.cls_at == 2


@pytest.mark.parametrize(
    ("lengths", "room", "truncation", "kept"),
    [
        ([3, 4], 7, "longest_first", [3, 4]),
        ([3, 9], 8, "longest_first", [3, 5]),
        ([9, 3], 8, "longest_first", [5, 3]),
        ([9, 12], 9, "longest_first", [4, 5]),
        ([12, 9], 9, "longest_first", [5, 4]),
        ([9, 9], 9, "longest_first", [4, 5]),
        ([3, 9], 8, "only_second", [3, 5]),
        ([9, 3], 8, "only_first", [5, 3]),
        ([9, 3], 8, "only_second", [5, 3]),
        ([9], 8, "longest_first", [8]),
        ([9, 9, 2], 10, "longest_first", [4, 4, 2]),
    ],
)
def test_fit(lengths: list[int], room: int, truncation: Any, kept: list[int]) -> None:
    assert fit(lengths, room, truncation) == kept
    assert sum(kept) <= room


def test_a_frame_whose_class_token_stands_last(wordpiece: Any) -> None:
    """XLNet's way: `a <sep> b <sep> <cls>`, where <cls> has a token type of its own."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(wordpiece.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single="$A:0 [SEP]:0 [CLS]:2",
        pair="$A:0 [SEP]:0 $B:1 [SEP]:1 [CLS]:2",
        special_tokens=[
            (name, wordpiece.convert_tokens_to_ids(name)) for name in ("[SEP]", "[CLS]")
        ],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        cls_token="[CLS]",
        pad_token="[PAD]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    encoder = Encoder(tokenizer, 32)
    texts = encoder.tokenize(["the cat", "who sat ?"])
    built = build(encoder.layout(("u", "v")), {"u": texts[0], "v": texts[1]})
    expected = tokenizer("the cat", "who sat ?")
    assert built.input_ids == expected["input_ids"]
    assert built.token_type_ids == expected["token_type_ids"]
    assert built.cls_at == len(built.input_ids) - 1
    template = parse_template("{p:1} {u}", ("u",))
    prompted = build(Encoder(tokenizer, 32, template=template).layout(("u",)), {"u": texts[0]})
    assert prompted.token_type_ids == [0] * 5
    assert prompted.cls_at == 4
