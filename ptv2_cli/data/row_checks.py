"""What a row must hold: texts, labels, words and tags, answers, and the parts of nested rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from ptv2_cli.data.formats import RawRow, unknown_column
from ptv2_cli.data.rows import Row
from ptv2_cli.errors import DataError


def check_text(raw: RawRow, column: str) -> str:
    """The text in a column.

    Raises:
        DataError: the column is missing or holds no text.
    """
    if column not in raw.values:
        raise unknown_column(raw.at(raw.header), column, raw.values)
    value = raw.values[column]
    if not isinstance(value, str):
        what = f"column {column!r} holds {value!r}"
        raise DataError.at(raw.where, what, "it must be text in quotes")
    return value


def check_label(raw: RawRow, value: Any, labels: Sequence[str], number: int | None = None) -> str:
    """The label as text (JSON's true and false as such); `number`: its own line, if it has one.

    Raises:
        DataError: the task has no such label.
    """
    label = str(value).lower() if isinstance(value, bool) else value
    if label not in labels:
        hint = f"labels of this task: {', '.join(labels)}"
        raise DataError.at(raw.at(number), f"label {value!r}", hint)
    return str(label)


def check_words(raw: RawRow, labels: Sequence[str] | None) -> tuple[list[str], list[str] | None]:
    """Words and tags of a sentence; tags are None if it has none. `labels` None: any tags.

    Raises:
        DataError: no words, more or fewer tags, or a tag that the task does not have.
    """
    tokens, tags = raw.values.get("tokens"), raw.values.get("tags")
    if not _is_texts(tokens) or not tokens:
        raise DataError.at(raw.where, "no words", "column tokens must be a list of words")
    if tags is None:
        return tokens, None
    if not isinstance(tags, list) or len(tags) != len(tokens):
        seen = len(tags) if isinstance(tags, list) else "no"
        what = f"{len(tokens)} words but {seen} tags"
        raise DataError.at(raw.where, what, "every word has one tag")
    if labels is None:
        if not _is_texts(tags):
            raise DataError.at(raw.where, f"tags {tags!r}", "column tags must be a list of texts")
        return tokens, tags
    numbers: Sequence[int | None] = raw.numbers or [None] * len(tags)
    return tokens, [
        check_label(raw, tag, labels, number) for tag, number in zip(tags, numbers, strict=True)
    ]


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def check_question(
    raw: RawRow, no_answer: bool, hint: str = "use task: qa/squad_v2 for such questions"
) -> Row:
    """A question with its context and answers.

    Args:
        raw: the row.
        no_answer: whether it may have no answer.
        hint: what to do if it must have one.

    Raises:
        DataError: a missing column, an answer that is not where it says, or a question without
            an answer in a task where all have one.
    """
    values = raw.values
    row: Row = {name: values[name] for name in ("id", "title") if values.get(name) is not None}
    row["question"] = check_text(raw, "question")
    row["context"] = check_text(raw, "context")
    where = question_place(raw)
    answers: Any = [] if values.get("is_impossible") else values.get("answers")
    if answers is None:
        return row
    if isinstance(answers, dict):
        answers = _rows_of_columns(answers, where)
    if not isinstance(answers, list):
        hint = 'write "answers": [{"text": "...", "answer_start": CHARACTER}]'
        raise DataError.at(where, f"answers {answers!r} are no list", hint)
    if not answers and not no_answer:
        raise DataError.at(where, "the question has no answer", hint)
    row["answers"] = [_check_answer(answer, row["context"], where) for answer in answers]
    return row


def question_place(raw: RawRow) -> str:
    """Where a question is: the file, its line if it has one, its id if it has one."""
    return f"{raw.where}: question {raw.values['id']}" if raw.values.get("id") else raw.where


def _check_answer(answer: Any, context: str, where: str) -> dict[str, Any]:
    values = answer if isinstance(answer, dict) else {}
    text, start = values.get("text"), values.get("answer_start")
    if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
        raise DataError.at(
            where, f"answer {answer!r}", 'an answer is {"text": "...", "answer_start": CHARACTER}'
        )
    if not text or start < 0 or not context.startswith(text, start):
        first = context.find(text) if text else -1
        raise DataError.at(
            where,
            f"answer {text!r} does not stand at character {start} of its context",
            f"it first stands at character {first}" if first >= 0 else "it stands nowhere in it",
        )
    return {"text": text, "answer_start": start}


def _rows_of_columns(answers: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """`{text: [...], answer_start: [...]}`, as parquet files have answers, to a list."""
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        what = f"answers {answers!r}"
        raise DataError.at(where, what, "text and answer_start must be lists of equal length")
    return [
        {"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)
    ]


_TYPES = {"object": Mapping, "list": list, "text": str}


def inner(raw: RawRow, values: Any, key: str, kind: str, of: str) -> Any:
    """`values[key]`, which is an `object`, a `list` or a `text`; `of`: what `values` is called.

    Raises:
        DataError: there is no such key, or it holds something else.
    """
    wanted = "an object" if kind == "object" else f"a {kind}"
    if not isinstance(values, Mapping) or key not in values:
        raise DataError.at(raw.where, f"{of} has no {key!r}", f"{key!r} holds {wanted}")
    value = values[key]
    if not isinstance(value, _TYPES[kind]):
        raise DataError.at(raw.where, f"{key!r} of {of} holds {value!r}", f"it must be {wanted}")
    return value


def numbered(raw: RawRow, values: Any, key: str, of: str, each: str) -> Iterator[tuple[int, Any]]:
    """The items of a list with their indices from 0; `each`: what one of them is called.

    Raises:
        DataError: there is no such list, or it is empty.
    """
    items = inner(raw, values, key, "list", of)
    if not items:
        raise DataError.at(raw.where, f"{of} has no {each}", "write one, or delete the line")
    yield from enumerate(items)


def index_of(raw: RawRow, values: Any, default: int) -> int:
    """The whole number that `idx` of an object is; `default` if it has none.

    Raises:
        DataError: it is something else.
    """
    index: Any = values.get("idx", default) if isinstance(values, Mapping) else default
    if not is_index(index):
        raise DataError.at(raw.where, f"idx {index!r}", "an index is a whole number, from 0")
    return index


def is_index(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, not negative; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def span_of(raw: RawRow, values: Any, length: int, what: str) -> tuple[int, int]:
    """First and last character [inclusive] of a span in a text of `length` characters.

    Raises:
        DataError: it lies outside of the text, or is no span.
    """
    ends: Any = values if isinstance(values, Mapping) else {}
    start, end = ends.get("start"), ends.get("end")
    if is_index(start) and is_index(end) and start <= end < length:
        return start, end
    raise DataError.at(
        raw.where,
        f"{what} {values!r} is no span of a text of {length} characters",
        "start and end are its first and its last character, from 0",
    )
