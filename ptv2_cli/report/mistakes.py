"""The rows that a run got wrong, and which class it took for which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ptv2_cli.errors import InputError
from ptv2_cli.report.predictions import RunPredictions
from ptv2_cli.runs.run_files import PredictionLine
from ptv2_cli.scoring.entities import entities
from ptv2_cli.scoring.written import EXACT, F1

NOTHING = "O"
"""Means "no entity" in a cell and in the confusion matrix of a tagging task."""
Confusion = dict[str, dict[str, int]]

Sort = Literal["worst", "confidence", "row"]
"""What comes first; row: as in the file."""


@dataclass(frozen=True)
class Mistake:
    """A row that the run got wrong."""

    number: int
    """The row's place in its split, from 1; of several tasks that train together, in its task's."""
    row: Mapping[str, Any]
    """The columns as the file has them."""
    gold: Any
    predicted: Any
    confidence: float | None
    """The probability of the answer (of wrong entities the highest), of a written text its log;
    None where it has none."""
    size: float
    """How wrong: 1 - p(gold) of labels, wrong entities, 1 - F1 of texts, |difference|."""
    cells: tuple[tuple[str, str], ...] = ()
    """Gold and predicted class, of tagging for each wrong entity; empty where there are none."""
    words: tuple[str, ...] = ()
    """Tagging: the sentence."""
    entities: tuple[tuple[Any, Any], ...] = ()
    """Tagging: pairs of a gold entity and the one predicted for it; None if there is none."""


def mistakes(predictions: RunPredictions, sort: Sort = "worst") -> list[Mistake]:
    """The wrong rows of a split, of a regression all that are not exact.

    A label is wrong if it is not the gold one, a sentence if its entities are not the gold ones,
    a text if it matches none of the right ones exactly.

    Raises:
        InputError: confidence is asked for where predictions have none.
        RunError: the predictions are damaged.
    """
    wrong = list(_wrong_rows(predictions))
    if sort == "row":
        return wrong
    if sort == "worst":
        return sorted(wrong, key=lambda mistake: (-mistake.size, *_sure(mistake)))
    if predictions.task.kind_spec.answer == "number":
        hint = "--sort worst shows the largest differences first"
        raise InputError.at("--sort", "a predicted number has no confidence", hint)
    return sorted(wrong, key=_sure)


def _sure(mistake: Mistake) -> tuple[bool, float]:
    """Orders mistakes by confidence, those without one last."""
    return mistake.confidence is None, -(mistake.confidence or 0.0)


def in_cell(
    predictions: RunPredictions, mistakes: Sequence[Mistake], cell: tuple[str, str]
) -> list[Mistake]:
    """Of the mistakes those in which the first class was taken for the second.

    Of entities the two may be equal: the type was right, the words were not.

    Raises:
        InputError: the task has no classes, or not these.
    """
    names = list(confusion(predictions))
    for name in cell:
        if name not in names:
            what = f"there is no class {name!r} in predictions/{predictions.split}.jsonl"
            raise InputError.at("--cell", what, f"classes: {', '.join(names)}")
    if cell[0] == cell[1] and predictions.task.kind_spec.answer != "tags":
        raise InputError.at("--cell", f"{cell[0]} for {cell[0]} is right", "name two classes")
    return [mistake for mistake in mistakes if cell in mistake.cells]


def confusion(predictions: RunPredictions) -> Confusion:
    """Gold -> predicted -> rows (of tagging, entities), for every pair of classes.

    Raises:
        InputError: the answers are no classes.
    """
    _ = predictions.statistics  # raises if the lines are damaged
    if predictions.task.kind_spec.answer == "tags":
        pairs = [pair for line in predictions.lines for pair in _pairs(line)]
        cells = [(_type(gold), _type(guess)) for gold, guess in pairs]
        names = [*dict.fromkeys(label[2:] for label in predictions.task.labels if label != NOTHING)]
    elif predictions.task.kind_spec.answer in {"number", "writing"} or isinstance(
        predictions.lines[0]["gold"], list
    ):
        what = f"the answers of {predictions.task.name} are no classes: there is nothing to confuse"
        raise InputError.at(predictions.run.name, what, "leave out --cell and --plot")
    else:
        cells = [
            (str(line["gold"]), str(predictions.task.answer(line))) for line in predictions.lines
        ]
        names = [*predictions.task.labels]
    names = [*dict.fromkeys([*names, *(name for cell in sorted(cells) for name in cell)])]
    if NOTHING in names:  # last, whatever its first row says
        names = [*(name for name in names if name != NOTHING), NOTHING]
    counts: Confusion = {gold: dict.fromkeys(names, 0) for gold in names}
    for gold, guess in cells:
        counts[gold][guess] += 1
    return counts


def _wrong_rows(predictions: RunPredictions) -> Iterator[Mistake]:
    statistics = predictions.statistics
    for number, line in enumerate(predictions.lines, 1):
        if predictions.task.kind_spec.answer == "tags":
            mistake = _tags(number, line, predictions.rows[number - 1]["tokens"])
        elif predictions.task.kind_spec.answer == "number":
            mistake = _number(number, line)
        elif predictions.task.kind_spec.answer == "writing":
            exact, f1 = statistics[number - 1][[EXACT, F1]]
            mistake = _written(number, line, float(exact), float(f1))
        elif isinstance(line["gold"], list):
            exact, f1 = statistics[number - 1][:2]
            mistake = _answer(number, line, float(exact), float(f1))
        else:
            mistake = _label(number, line)
        if mistake is not None:
            yield mistake


def _label(number: int, line: PredictionLine) -> Mistake | None:
    gold, label = line["gold"], line["prediction"]["label"]
    if gold == label:
        return None
    shares = line["prediction"].get("probabilities", {})
    confidence, right = shares.get(str(label)), shares.get(str(gold), 0.0)
    cell = (str(gold), str(label))
    return Mistake(number, line["row"], gold, label, confidence, 1 - right, (cell,))


def _number(number: int, line: PredictionLine) -> Mistake | None:
    gold, value = line["gold"], line["prediction"]
    size = abs(value - gold)
    return Mistake(number, line["row"], gold, value, None, size) if size else None


def _answer(number: int, line: PredictionLine, exact: float, f1: float) -> Mistake | None:
    if exact:
        return None
    answer, sure = line["prediction"]["answer"], line["prediction"].get("probability")
    return Mistake(number, line["row"], line["gold"], answer, sure, 1 - f1)


def _written(number: int, line: PredictionLine, exact: float, f1: float) -> Mistake | None:
    if exact:
        return None
    gold, text = line["gold"], line["prediction"]["text"]
    right = [gold] if isinstance(gold, str) else gold
    sure = line["prediction"].get("log_probability")
    return Mistake(number, line["row"], right, text, sure, 1 - f1)


def _tags(number: int, line: PredictionLine, words: Sequence[str]) -> Mistake | None:
    wrong = [(gold, guess) for gold, guess in _pairs(line) if gold != guess]
    if not wrong:
        return None
    chances = {
        (item["type"], item["start"], item["end"]): item["probability"]
        for item in line["prediction"].get("entities", ())
    }
    sure = [chances[guess] for _, guess in wrong if guess in chances]
    cells = tuple((_type(gold), _type(guess)) for gold, guess in wrong)
    return Mistake(
        number,
        line["row"],
        line["gold"],
        line["prediction"]["tags"],
        max(sure, default=None),
        len(wrong),
        cells,
        tuple(words),
        tuple(wrong),
    )


def _pairs(line: PredictionLine) -> list[tuple[Any, Any]]:
    """Every gold entity with the predicted one that it was taken for, then what is left of these.

    An equal entity comes first, then the first one left that shares a word.
    """
    golds, guesses = entities(line["gold"]), entities(line["prediction"]["tags"])
    left = [guess for guess in guesses if guess not in golds]
    made: list[tuple[Any, Any]] = []
    for gold in golds:
        if gold in guesses:
            made.append((gold, gold))
            continue
        over = (one for one in left if one.start < gold.end and gold.start < one.end)
        guess = next(over, None)
        if guess is not None:
            left.remove(guess)
        made.append((gold, guess))
    return [*made, *((None, guess) for guess in left)]


def _type(entity: Any) -> str:
    return NOTHING if entity is None else str(entity.type)
