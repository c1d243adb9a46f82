"""Rows of texts to write: how they are read, and what becomes of them as tokens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lm
import pytest
import tiny

from ptv2_cli.data.readers import read_files
from ptv2_cli.data.rows import Reading
from ptv2_cli.data.source import NamedSource
from ptv2_cli.errors import ConfigError, DataError, UnfitRow
from ptv2_cli.inputs.chat import ChatTemplate
from ptv2_cli.inputs.encoder import Encoder
from ptv2_cli.inputs.template import parse_template
from ptv2_cli.kinds import IGNORE
from ptv2_cli.runs.rows.duplicate_text import overlap_warnings
from ptv2_cli.tasks.catalog import load_task

ROW = {"input": "the cat", "output": "a dog"}
TALK = [
    {"role": "system", "content": "the box"},
    {"role": "user", "content": "ann likes who ?"},
    {"role": "assistant", "content": "the cat"},
    {"role": "user", "content": "who sees bob ?"},
]
END_OF_TURN = 351
ANSWER = {"role": "assistant", "content": "the old dog"}


def own(**options: Any) -> Any:
    return load_task("text/generation", options)


def fails(task: Any, source: Any, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        task.read(source, split)
    return str(caught.value)


def options_fail(**options: Any) -> str:
    from pydantic import ValidationError

    with pytest.raises((ConfigError, ValidationError)) as caught:
        own(**options)
    return str(caught.value)


# Options


def test_messages_stand_alone() -> None:
    given = {"input": "x", "output": "x", "template": "x", "words": {"a": "b"}}
    for key, value in given.items():
        assert "no meaning beside messages" in options_fail(messages="talk", **{key: value})
    task = own(messages="talk")
    assert own(**task.options.model_dump()).options == task.options


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{input} {mask}", "has a {mask}"),
        ("{text}", "unknown {text}"),
        ("x", "no text column"),
        ("{p:3} {input}", "gives no vectors for it"),
        ("{input}\\nSummary:", "no line break"),
    ],
)
def test_templates_that_cannot_be(template: str, says: str) -> None:
    assert says in options_fail(template=template)


def test_a_template_shows_every_column() -> None:
    assert "leaves out {b}" in options_fail(input=["a", "b"], template="{a}:")


@pytest.mark.parametrize("columns", [[], ["a", "a"]])
def test_a_row_has_columns_to_read(columns: list[str]) -> None:
    assert "one column or several different ones" in options_fail(input=columns)


# Reading


@pytest.mark.parametrize("value", [None, "", "  ", []])
def test_rows_of_train_have_a_text(corpus: Any, value: Any) -> None:
    path = corpus.put("train.jsonl", [ROW, {**ROW, "output": value}])
    assert fails(own(), corpus.source) == (
        f"{path}:2: column 'output' is empty: no text to write\n"
        "  -> write the text, or delete the row"
    )
    corpus.put("test.jsonl", [{**ROW, "output": value}])
    assert own().references(own().read(corpus.source, "test").rows[0]) == []


@pytest.mark.parametrize("value", [4, True, {"a": 1}, ["a", ""], ["a", 3], [["a"]]])
def test_texts_are_texts(corpus: Any, value: Any) -> None:
    path = corpus.put("train.jsonl", [{**ROW, "output": value}])
    assert f"{path}:1: column 'output' holds" in fails(own(), corpus.source)


def test_a_column_that_is_missing(corpus: Any) -> None:
    path = corpus.put("train.jsonl", [{"input": "x", "outputs": "y"}])
    assert f"{path}:1: no column 'output'\n  -> did you mean 'outputs'?" in fails(
        own(), corpus.source
    )


def test_several_right_texts(corpus: Any) -> None:
    corpus.put("train.jsonl", [{**ROW, "output": ["a dog", "the dog"]}])
    task = own()
    (row,) = task.read(corpus.source, "train").rows
    assert task.references(row) == ["a dog", "the dog"]


def test_bad_rows_can_be_left_out(corpus: Any) -> None:
    path = corpus.put("train.jsonl", [ROW, {"input": "x"}, {**ROW, "output": ""}])
    source = NamedSource({"train": path}, reading=Reading(skip_bad=True))
    found = own().read(source, "train")
    assert len(found.rows) == 1
    assert [bad.number for bad in found.bad] == [2, 3]


def test_lists_in_tables_are_texts_and_said(corpus: Any) -> None:
    corpus.put("train.csv", 'input,output\nx,"[""a"", ""b""]"\ny,"[""c""]"\n')
    task = own()
    found = task.read(corpus.source, "train")
    assert task.references(found.rows[0]) == ['["a", "b"]']
    assert "several right texts are a list in jsonl or parquet" in found.notes[0]
    corpus.put("train.csv", 'input,output\nx,"[""a""]"\ny,c\n')
    assert task.read(corpus.source, "train").notes == ()


# Labels that are written as texts


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.jsonl", [{"input": "x", "output": True}], {True: "yes", False: "no"}),
        ("train.jsonl", [{"input": "x", "output": 1}], {"0": "no", "1": "yes"}),
        ("train.jsonl", [{"input": "x", "output": "entailment"}], {"entailment": "yes"}),
        ("train.tsv", "input\toutput\nx\t1\n", {"0": "no", "1": "yes"}),
    ],
)
def test_words_stand_for_labels(corpus: Any, name: str, content: Any, words: Any) -> None:
    corpus.put(name, content)
    task = own(words=words)
    (row,) = task.read(corpus.source, "train").rows
    assert task.references(row) == ["yes"]
    assert own(**task.options.model_dump()).options == task.options


@pytest.mark.parametrize("value", ["maybe", 2, ["yes"]])
def test_a_label_without_a_word(corpus: Any, value: Any) -> None:
    path = corpus.put("train.jsonl", [{"input": "x", "output": value}])
    says = fails(own(words={"true": "yes", "false": "no"}), corpus.source)
    assert f"{path}:1: label " in says
    assert "labels of this task: true, false" in says


def test_every_label_has_a_text() -> None:
    assert "gives the label 'a' no text" in options_fail(words={"a": " ", "b": "no"})


# Conversations


def test_the_last_message_is_the_answer(corpus: Any) -> None:
    task = own(messages="talk")
    corpus.put("train.jsonl", [{"talk": [*TALK, ANSWER], "id": 7}])
    (row,) = task.read(corpus.source, "train").rows
    assert row["talk"] == TALK
    assert task.references(row) == ["the old dog"]
    line = {"row": {"talk": [*TALK, ANSWER], "id": 7}, "gold": task.gold(row)}
    assert task.labelled(line) == row
    assert task.texts_by_column(row) == {
        "talk": "the box\nann likes who ?\nthe cat\nwho sees bob ?"
    }


def test_messages_in_a_table_are_json(corpus: Any) -> None:
    cell = json.dumps([*TALK, ANSWER]).replace('"', '""')
    corpus.put("train.csv", f'id,talk\n7,"{cell}"\n')
    task = own(messages="talk")
    (row,) = task.read(corpus.source, "train").rows
    assert row["talk"] == TALK
    assert task.gold(row) == "the old dog"


def test_a_conversation_without_an_answer(corpus: Any) -> None:
    task = own(messages="talk")
    path = corpus.put("train.jsonl", [{"talk": TALK}])
    assert fails(task, corpus.source) == (
        f"{path}:1: the last message of column 'talk' is not the assistant's: no answer\n"
        "  -> add the answer, or delete the row"
    )
    corpus.put("test.jsonl", [{"talk": TALK}])
    (row,) = task.read(corpus.source, "test").rows
    assert task.gold(row) is None


def test_an_answer_is_not_looked_at_in_new_rows(corpus: Any) -> None:
    task = own(messages="talk")
    path = corpus.put("new.jsonl", [{"talk": [*TALK, ANSWER]}])
    (line,) = read_files(task, [path], (".jsonl",))
    row = task.new_row(line)
    assert task.gold(row) is None
    assert row["talk"] == TALK


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("hello", "column 'talk' holds 'hello'"),
        ([], "column 'talk' holds '[]'"),
        (7, "column 'talk' holds '7'"),
        (["x"], "message 1 of column 'talk' has no role and content"),
        ([{"role": "user"}], "message 1 of column 'talk' has no role and content"),
        ([{"role": "asistant", "content": "x"}], "did you mean assistant? roles: system"),
        ([{"role": "user", "content": [1]}], "the content of message 1 of column 'talk' is '[1]'"),
        ([ANSWER], "before the answer in column 'talk' comes nothing"),
        ([TALK[0], ANSWER], "comes a message of role system"),
        ([*TALK, ANSWER, ANSWER], "comes a message of role assistant"),
    ],
)
def test_what_is_no_conversation(corpus: Any, value: Any, says: str) -> None:
    path = corpus.put("train.jsonl", [{"talk": value}])
    message = fails(own(messages="talk"), corpus.source)
    assert message.startswith(f"{path}:1: ")
    assert says in message


# Tokens


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tokenizer = tiny.byte_level("GPT2TokenizerFast")
    tokenizer.chat_template = lm.CHAT
    return tokenizer


def encoder(tokenizer: Any, max_len: int = 200, room: int = 12, **options: Any) -> Encoder:
    return Encoder(tokenizer, max_len, causal=True, answer_room=room, **options)


def text_of(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


def split(feature: Any) -> tuple[list[int], list[int]]:
    """The tokens that the answer follows, and the answer."""
    answer = [token for token in feature.label if token != IGNORE]
    start = next(at for at, token in enumerate(feature.label) if token != IGNORE)
    # Each label is the token that comes next; the answer's last one is no input.
    assert feature.input_ids[start + 1 :] == answer[:-1]
    assert feature.label[start:] == answer
    return feature.input_ids[: start + 1], answer


@pytest.mark.parametrize(
    ("template", "whole"),
    [
        ("{input}", "the cat a dog"),
        ("{input} Answer:", "the cat Answer: a dog"),
        ("{input} Answer: ", "the cat Answer: a dog"),
        ("{input}\nSummary:", "the cat\nSummary: a dog"),
        ("Text:\n{input}\n\nSummary:\n", "Text:\nthe cat\n\nSummary:\na dog"),
        ("Text:\n  {input}  \n  Summary:", "Text:\n the cat\n  Summary: a dog"),
    ],
)
def test_the_answer_follows_as_a_human_would_write_it(
    tokenizer: Any, template: str, whole: str
) -> None:
    parsed = parse_template(template, ["input"], prompted=False, lines=True)
    table = own(template=template).encode([ROW], encoder(tokenizer, template=parsed, ahead=True))
    question, answer = split(table[0])
    assert answer[-1] == tokenizer.eos_token_id
    assert text_of(tokenizer, question + answer[:-1]) == whole
    assert question + answer[:-1] == tokenizer(whole)["input_ids"]


def test_other_templates_read_line_breaks_as_before() -> None:
    plain = parse_template("{input}\n Summary:\n", ["input"], prompted=False)
    assert [piece.text for piece in plain.pieces[1:]] == ["Summary:"]  # type: ignore[union-attr]
    assert plain.pieces[1].spaced  # type: ignore[union-attr]


def test_an_encoder_decoder_learns_the_answer_alone(tokenizer: Any) -> None:
    plain = Encoder(tokenizer, 50, answer_room=12)
    (feature,) = own().encode([ROW], plain)
    assert feature.input_ids == tokenizer("the cat")["input_ids"]
    assert feature.label == [*tokenizer("a dog")["input_ids"], tokenizer.eos_token_id]


def test_rows_without_an_answer_among_others(tokenizer: Any) -> None:
    rows = [{"input": "the cat"}, ROW]
    table = own().encode(rows, encoder(tokenizer))
    assert table[0].label is None
    assert split(table[1])[1][-1] == tokenizer.eos_token_id


def test_an_answer_that_is_too_long_names_the_longest(tokenizer: Any) -> None:
    rows = [ROW, {**ROW, "output": "a dog sat on the red mat"}, {**ROW, "output": "a dog sat on"}]
    with pytest.raises(UnfitRow) as caught:
        own().encode(rows, encoder(tokenizer, room=4))
    assert caught.value.row is rows[1]
    assert "'a dog sat on the red mat' to write has 8 tokens with its end" in str(caught.value)
    assert "2 rows have such answers" in str(caught.value)
    assert "max_new_tokens: 8}" in str(caught.value)


def talking(tokenizer: Any, max_len: int = 200, room: int = 12) -> Encoder:
    return encoder(tokenizer, max_len, room, chat=ChatTemplate(tokenizer, "NAME"))


def rendered(tokenizer: Any, messages: list[Any], **options: Any) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


TALK_ROW = {"talk": TALK, "talk: answer": ANSWER["content"]}


def test_question_and_answer_are_the_whole_conversation(tokenizer: Any) -> None:
    table = own(messages="talk").encode([TALK_ROW], talking(tokenizer))
    question, answer = split(table[0])
    whole = rendered(tokenizer, [*TALK, ANSWER])
    assert question == rendered(tokenizer, TALK, add_generation_prompt=True)
    assert answer[-1] == END_OF_TURN  # the template's own end of a turn
    line_break = len(tokenizer("\n")["input_ids"])
    assert question + answer == whole[:-line_break]
    assert table.truncated_rows == 0


def test_writing_ends_with_the_turn_or_the_text(tokenizer: Any) -> None:
    assert talking(tokenizer).end_ids == [END_OF_TURN, tokenizer.eos_token_id]
    assert encoder(tokenizer).end_ids == [tokenizer.eos_token_id]


def test_a_template_without_an_end_gets_the_end_of_the_text() -> None:
    tokenizer = tiny.byte_level("GPT2TokenizerFast")
    tokenizer.chat_template = lm.CHAT.replace(lm.TURN, "")
    table = own(messages="talk").encode([TALK_ROW], talking(tokenizer))
    assert split(table[0])[1][-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("role", ["system", "developer"])
def test_what_a_conversation_begins_with_stays(tokenizer: Any, role: str) -> None:
    talk = [{**TALK[0], "role": role}, *TALK[1:]]
    shorter = rendered(tokenizer, [talk[0], talk[3]], add_generation_prompt=True)
    row = {**TALK_ROW, "talk": talk}
    table = own(messages="talk").encode([row], talking(tokenizer, len(shorter) + 12))
    assert split(table[0])[0] == shorter
    assert table.truncated_rows == 1


def test_of_a_long_conversation_the_oldest_is_left_out(tokenizer: Any) -> None:
    task = own(messages="talk")
    shorter = rendered(tokenizer, [TALK[0], TALK[3]], add_generation_prompt=True)

    tight = task.encode([TALK_ROW], talking(tokenizer, len(shorter) + 12 - 2))
    text = text_of(tokenizer, split(tight[0])[0])
    rest = text.removeprefix(f"<|system|>\nthe box{lm.TURN}\n<|user|>\n").partition(lm.TURN)[0]
    assert rest
    assert rest != TALK[3]["content"]
    assert TALK[3]["content"].endswith(rest)

    bare = [{**TALK[0], "content": ""}, {**TALK[3], "content": ""}]
    least = len(rendered(tokenizer, bare, add_generation_prompt=True))
    tightest = task.encode([TALK_ROW], talking(tokenizer, least + 12))
    assert split(tightest[0])[0] == rendered(tokenizer, bare, add_generation_prompt=True)
    with pytest.raises(UnfitRow, match="no room for the signs"):
        task.encode([TALK_ROW], talking(tokenizer, least + 11))


def test_a_template_that_refuses_names_the_row() -> None:
    tokenizer = tiny.byte_level("GPT2TokenizerFast")
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UnfitRow, match=r"of NAME refuses messages up to .*: roles must alternate"):
        own(messages="talk").encode([TALK_ROW], talking(tokenizer))


def test_a_tokenizer_without_a_chat_template() -> None:
    with pytest.raises(ConfigError, match="the tokenizer of NAME has no chat template") as caught:
        ChatTemplate(tiny.byte_level("GPT2TokenizerFast"), "NAME")
    assert "write input: and output: columns" in str(caught.value)


def test_no_token_types_for_a_model_that_writes(tokenizer: Any) -> None:
    typed = tiny.byte_level("GPT2TokenizerFast")
    typed.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    assert own().encode([ROW], encoder(typed))[0].token_type_ids is None


def test_what_a_line_of_a_file_is_named_by(tmp_path: Path) -> None:
    error = UnfitRow.of(ROW, "task.messages", "it is wrong", "correct it")
    assert str(error.beside("train.jsonl:3")) == (
        "task.messages: it is wrong (train.jsonl:3)\n  -> correct it"
    )
    assert str(error.beside(None)) == str(error)


def test_questions_that_train_has_too_are_counted(corpus: Any) -> None:
    """The answers may differ: what the model reads is the same."""
    user, other = {"role": "user", "content": "who ?"}, {"role": "user", "content": "where ?"}
    named = {"role": "assistant", "content": "bob"}
    for split, answers in (("train", [ANSWER, named]), ("val", [named, ANSWER])):
        lines = [{"talk": [user, answers[0]]}, {"talk": [other if split == "val" else user, named]}]
        corpus.put(f"{split}.jsonl", lines)
    task = own(messages="talk")
    train, validation = (task.read(corpus.source, name).rows for name in ("train", "validation"))
    (warning,) = overlap_warnings(task, "validation", train, validation)
    assert warning.startswith("1 of 2 validation rows are in train word for word")


def test_predictions_of_a_run_that_diverged() -> None:
    """Their log probability was no number, for which the file has null."""
    task = own(input="input")
    rows = [{"input": "ann", "output": "a dog"}, {"input": "bob", "output": "a cat"}]
    line = {"text": "a dog", "log_probability": None, "gold_log_probability": None}
    scores = task.score(rows, [{**line, "gold_tokens": 2}] * 2)
    assert scores.metrics["exact_match"] == 0.5
    assert math.isnan(scores.detail["perplexity"])
