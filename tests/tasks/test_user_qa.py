from __future__ import annotations

from typing import Any

import pytest
from squad_text import squad_json

from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.scoring import cmrc
from ptv2_cli.tasks.catalog import load_task

CONTEXT = "范廷颂于1919年出生在越南宁平省。"


def ask(text: str = "范廷颂", context: str = CONTEXT, **values: Any) -> dict[str, Any]:
    answers = [{"text": text, "answer_start": context.index(text)}]
    return {"id": "q1", "question": "谁？", "answers": answers} | values


def settled(corpus: Any, *questions: dict[str, Any], context: str = CONTEXT, **options: Any) -> Any:
    corpus.put("train.json", squad_json(context, *questions))
    return load_task("text/qa", options).settle(corpus.source)


@pytest.mark.parametrize(
    ("answer", "gold", "f1"),
    [
        ("范廷颂", "范廷颂", 1.0),
        ("范廷", "范廷颂", 0.8),  # 2 of 2 and 2 of 3
        ("越南宁平", "宁平省", 2 * 2 / 7),
        ("省平宁", "宁平省", 2 * 1 / 6),  # a run, not a bag, of characters
        ("《范廷颂》", "范廷颂", 1.0),
        ("1919年", "1919", 2 * 1 / 3),  # a number is one segment
        ("Windows XP系统", "windows XP", 2 * 2 / 6),
        ("", "范", 0.0),
        ("", "", 1.0),
    ],
)
def test_f1_over_characters_worked_by_hand(answer: str, gold: str, f1: float) -> None:
    assert cmrc.f1(answer, gold) == pytest.approx(f1)


def test_the_nearest_of_the_accepted_answers_counts() -> None:
    assert cmrc.best_over("宁平", ["越南", "宁平省"]) == (0.0, pytest.approx(0.8))
    assert cmrc.best_over("宁平。", ["宁平", "x"]) == (1.0, 1.0)
    assert cmrc.best_over("", []) == (1.0, 1.0)
    assert cmrc.best_over("宁平", []) == (0.0, 0.0)


def test_the_metric_is_chosen_by_script_and_named(corpus: Any) -> None:
    task = settled(corpus, ask(), ask("1919年", id="q2"))
    assert task.options.metric == "char"
    assert task.identity == {"name": "text/qa", "version": 2, "metric": "char"}
    rows = task.read(corpus.source, "train").rows
    lines = [{"answer": "范廷"}, {"answer": "1919年"}]
    scores = task.score(rows, lines)
    assert scores.metrics == {"exact_match": 0.5, "f1": pytest.approx(0.9)}
    assert scores.detail["metric"] == "F1 over characters, as CMRC 2018"
    totals = task.row_statistics(rows, lines).sum(axis=0)
    assert float(task.from_statistics(totals)["f1"]) == pytest.approx(0.9)
    words = settled(corpus, ask(), metric="squad")
    assert words.score(rows, [{"answer": "范廷"}, {"answer": ""}]).metrics["f1"] == 0.0


def test_english_is_scored_over_words(corpus: Any) -> None:
    text = "Ann sat in Rome."
    task = settled(corpus, ask("in Rome", text), context=text)
    assert task.options.metric == "squad"
    rows = task.read(corpus.source, "train").rows
    assert task.score(rows, [{"answer": "Rome"}]).metrics["f1"] == pytest.approx(2 / 3)


def test_unanswerable_questions_are_found_in_train(corpus: Any) -> None:
    empty = ask(id="q2", is_impossible=True)
    task = settled(corpus, ask(), empty, null_threshold="tuned")
    assert (task.options.no_answer, task.no_answer, task.tunes) == (True, True, True)
    assert settled(corpus, ask()).no_answer is False
    with pytest.raises(ConfigError, match="null_threshold"):
        settled(corpus, ask(), null_threshold=0.0)


def test_an_unanswerable_question_where_train_has_none(corpus: Any) -> None:
    task = settled(corpus, ask())
    path = corpus.put("dev.json", squad_json(CONTEXT, ask(id="q9", is_impossible=True)))
    with pytest.raises(DataError) as caught:
        task.read(corpus.source, "validation")
    assert f"{path}: question q9: the question has no answer" in str(caught.value)
    assert "task: {no_answer: true}" in str(caught.value)


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (ask(question=" "), "train.json: question q1: the question is empty"),
        ({"id": "q3", "question": "谁？"}, "question q3: the question has no answers"),
        (ask(answers=[{"text": "京", "answer_start": 0}]), "it stands nowhere in it"),
    ],
)
def test_bad_questions_are_named(corpus: Any, question: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        settled(corpus, question)
    assert says in str(caught.value)


def test_test_questions_may_have_no_answers(corpus: Any) -> None:
    task = settled(corpus, ask())
    corpus.put("test.json", squad_json(CONTEXT, {"id": "q3", "question": "谁？"}))
    assert task.gold(task.read(corpus.source, "test").rows[0]) is None
