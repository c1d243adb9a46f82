"""Words for labels, the templates that ask for them, and examples before the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import tiny

from ptv2_cli.errors import ConfigError
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.template import parse_template
from ptv2_cli.inputs.verbalizer import render_demonstrations, word_problems, word_tokens
from ptv2_cli.runs.resolve.verbalizer_rules import default_question, default_words
from ptv2_cli.tasks.catalog import load_definition, load_task, task_names

COLUMNS = ("premise", "hypothesis")
LABELS = ("entailment", "not_entailment")
ROW = {"premise": "ann sees the cat", "hypothesis": "bob sat"}
QUESTION = "{premise} ? {hypothesis} . it was {mask}"


def encoder(
    tokenizer: Any, text: str = QUESTION, *, max_len: int = 64, ahead: bool = False
) -> Encoder:
    template = parse_template(text, COLUMNS, "head.template", prompted=False)
    return Encoder(tokenizer, max_len, template=template, ahead=ahead)


def named(values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(LABELS, values, strict=True))


def pieces(tokenizer: Any, ids: list[int]) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


@pytest.mark.parametrize("name", task_names())
def test_shipped_words_and_templates_fit_their_task(name: str) -> None:
    definition = load_definition(name)
    if definition.verbalizer is None:
        return
    assert not list(word_problems(definition.verbalizer.words, definition.labels, ""))
    template = parse_template(definition.verbalizer.template, definition.text, "", prompted=False)
    assert sorted(template.columns) == sorted(definition.text)
    assert definition.verbalizer.template.endswith("{mask}")


def test_own_labels_are_their_own_words() -> None:
    task = load_task("text/classification", {"labels": ("good", "bad"), "text": ("title", "body")})
    assert default_words(task) == {"good": "good", "bad": "bad"}
    assert default_question(task) == "{title} {body} Answer: {mask}"


def test_a_word_is_encoded_as_it_stands_in_the_text() -> None:
    tokenizer = tiny.byte_level("GPT2TokenizerFast")
    spaced = word_tokens(encoder(tokenizer, ahead=True), named(("true", "false")), LABELS)
    assert tokenizer.convert_ids_to_tokens(spaced) == ["Ġtrue", "Ġfalse"]
    tight = encoder(tokenizer, "{premise} {hypothesis}:{mask}", ahead=True)
    found = word_tokens(tight, named(("x", "a")), LABELS)
    assert tokenizer.convert_ids_to_tokens(found) == ["x", "a"]


@pytest.mark.parametrize(
    ("words", "where", "what"),
    [
        (("true", "untrueish"), "head.words.not_entailment", "tokens here, not one: Ġ"),
        (("true", "true"), "head.words.not_entailment", "are one token"),
    ],
)
def test_words_that_are_no_single_token(words: tuple[str, str], where: str, what: str) -> None:
    tokenizer = tiny.byte_level("GPT2TokenizerFast")
    with pytest.raises(ConfigError) as caught:
        word_tokens(encoder(tokenizer, ahead=True), named(words), LABELS)
    assert [problem.where for problem in caught.value.problems] == [where]
    assert what in caught.value.problems[0].what


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not know the word 'zebra'"):
        word_tokens(encoder(tiny.wordpiece()), named(("true", "zebra")), LABELS)


def test_labels_and_words_must_match() -> None:
    problems = list(word_problems({"entailment": "true", "maybe": "true"}, LABELS, "head.words"))
    assert [problem.where for problem in problems] == [
        "head.words",
        "head.words.maybe",
        "head.words.maybe",
    ]
    assert "no word for the label 'not_entailment'" in problems[0].what


def test_an_encoder_reads_its_mask_token() -> None:
    tokenizer = tiny.wordpiece()
    (feature,) = load_task("superglue/rte").encode([ROW], encoder(tokenizer))
    shown = "[CLS] ann sees the cat ? bob sat . it was [MASK] [SEP]"
    assert pieces(tokenizer, feature.input_ids) == shown
    assert feature.mask_at is not None
    assert feature.input_ids[feature.mask_at] == tokenizer.mask_token_id


def test_a_causal_model_reads_what_stands_before_the_mask() -> None:
    tokenizer = tiny.byte_level("GPT2TokenizerFast")
    made = encoder(tokenizer, ahead=True)
    (feature,) = load_task("superglue/rte").encode([ROW], made)
    assert tokenizer.decode(feature.input_ids) == "ann sees the cat ? bob sat . it was"
    assert feature.mask_at == len(feature.input_ids) - 1


DEMONSTRATED = [
    {"premise": "dora ran", "hypothesis": "carl sat", "label": "entailment"},
    {"premise": "the mat", "hypothesis": "a box", "label": "not_entailment"},
]


def shown(
    tokenizer: Any, max_len: int = 64, *, ahead: bool = False, text: str = QUESTION
) -> Encoder:
    made = encoder(tokenizer, text, max_len=max_len, ahead=ahead)
    tokens = word_tokens(made, named(("true", "false")), LABELS)
    return made.showing(render_demonstrations(made, COLUMNS, DEMONSTRATED, named(tokens)))


def test_demonstrations_stand_before_the_text() -> None:
    tokenizer = tiny.wordpiece()
    task = load_task("superglue/rte")
    (feature,) = task.encode([ROW], shown(tokenizer))
    assert pieces(tokenizer, feature.input_ids) == (
        "[CLS] dora ran ? carl sat . it was true the mat ? a box . it was false "
        "ann sees the cat ? bob sat . it was [MASK] [SEP]"
    )
    assert feature.mask_at == len(feature.input_ids) - 2
    causal = tiny.byte_level("GPT2TokenizerFast")
    (feature,) = task.encode([ROW], shown(causal, ahead=True))
    assert causal.decode(feature.input_ids) == (
        "dora ran ? carl sat . it was true\n\nthe mat ? a box . it was false\n\n"
        "ann sees the cat ? bob sat . it was"
    )
    assert feature.mask_at == len(feature.input_ids) - 1


def test_the_first_are_left_out_until_the_others_fit() -> None:
    tokenizer = tiny.wordpiece()
    task = load_task("superglue/rte")
    for max_len, left_out, tokens in (
        (31, 0, 31),
        (30, 1, 22),
        (22, 1, 22),
        (21, 2, 13),
        (12, 2, 12),
    ):
        (feature,) = task.encode([ROW], shown(tokenizer, max_len))
        assert (feature.left_out, len(feature.input_ids)) == (left_out, tokens), max_len
        assert feature.truncated == (max_len == 12)
        assert ("dora" in pieces(tokenizer, feature.input_ids)) == (left_out == 0)


def test_a_row_is_no_demonstration_of_itself() -> None:
    tokenizer = tiny.wordpiece()
    (feature,) = load_task("superglue/rte").encode([DEMONSTRATED[1]], shown(tokenizer))
    assert pieces(tokenizer, feature.input_ids).count("the mat") == 1
    assert "false" not in pieces(tokenizer, feature.input_ids)
    assert feature.left_out == 0
