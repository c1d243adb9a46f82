"""`ptv2 predict --text`: one row from the command line, its answer as plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ptv2_cli.cli import console

if TYPE_CHECKING:
    from ptv2_cli.runs.prediction.predict import NewRow, Run
    from ptv2_cli.tasks.base import Task


def require_alone(options: Mapping[str, Any], runs: int) -> None:
    """Check that nothing stands beside `--text` that is about files.

    Raises:
        InputError: an option has a value, or there are several runs.
    """
    from ptv2_cli.errors import InputError

    for name, value in options.items():
        if value is not None and value is not False:
            hint = "predict the text alone; > FILE keeps what is printed"
            raise InputError.at(name, "has no meaning beside --text", hint)
    if runs > 1:
        raise InputError.at("--run", f"{runs} runs for one text", "name one run")


def predict_text(run: Run, texts: Sequence[str]) -> None:
    """Print the answer to one row; a text that is written comes word by word.

    Raises:
        InputError: a text is no UTF-8, or the row cannot be used.
    """
    from ptv2_cli.errors import DataError, InputError

    if any("\udc80" <= sign <= "\udcff" for text in texts for sign in text):
        hint = "type it in UTF-8, or predict a file with --encoding"
        raise InputError.at("--text", "is no UTF-8 text", hint)
    task, shown = run.task, False

    def show(part: str) -> None:
        nonlocal shown
        shown = True
        console.part(part)

    try:
        prediction = run.stream(_row(task, texts), show)["prediction"]
    except KeyboardInterrupt:
        if shown:
            console.part("\n")
        raise
    except DataError as error:  # the row is in no file
        problems = (replace(each, where="--text") for each in error.problems)
        raise DataError(*problems) from error
    if shown:
        console.part("\n")
    else:
        console.lines(_answer(task, prediction))


def _row(task: Task, texts: Sequence[str]) -> NewRow:
    """A row of the task: the texts of its columns, or JSON with columns or messages."""
    if len(texts) > 1:
        return tuple(texts)
    try:
        value = json.loads(texts[0])
    except (ValueError, RecursionError):
        return texts[0]
    if isinstance(value, dict) and (task.parts or set(task.columns) & set(value)):
        return value
    if isinstance(value, list) and getattr(task, "messages", None) is not None:
        return {task.columns[0]: value}
    return texts[0]


def _answer(task: Task, prediction: Any) -> list[str]:
    """The answer on lines: of labels each with its probability, of tags each with its word."""
    if not isinstance(prediction, Mapping):
        return [f"{prediction:g}"]
    if "probabilities" in prediction:
        shares = prediction["probabilities"].items()
        return [f"{label}\t{share:.4f}" for label, share in sorted(shares, key=_likeliest)]
    if "tags" in prediction:
        return [f"{one['text']}\t{one['type']}" for one in prediction.get("entities", ())]
    for key in (task.kind_spec.answer_key, "answer", "text"):
        if isinstance(prediction.get(key), str):
            return [prediction[key]]
    return [json.dumps(prediction, ensure_ascii=False)]


def _likeliest(item: tuple[str, float]) -> float:
    return -item[1]
