"""`load(run).predict(rows)`: the run's own predictions again, a chunk of rows at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny

from ptv2_cli import load
from ptv2_cli.errors import DataError, InputError, MachineError, RunError
from ptv2_cli.runs.prediction.predict import BATCHES, Run
from ptv2_cli.runs.prediction.prediction_stream import record_of


def write_table(folder: Path, labels: tuple[str, str]) -> Path:
    """Tables of a text that tells the label, and an id."""
    folder.mkdir()
    for name, count in (("train", 24), ("validation", 12)):
        lines = ["id,text,label"]
        for at in range(count):
            lines.append(f'{at},"{("ann", "bob")[at % 2]}, {tiny.WORDS[at]}",{labels[at % 2]}')
        (folder / f"{name}.csv").write_text("\n".join(lines))
    return folder


TASKS: dict[str, tuple[str, Any]] = {
    "rte": ("superglue/rte", tiny.write_rte),
    "ner": ("ner/conll2003", tiny.write_ner),
    "squad": ("qa/squad", tiny.write_squad),
    "own": ("text/classification", partial(write_table, labels=("y", "n"))),
    "regression": ("text/regression", partial(write_table, labels=("0.5", "2"))),
    "choice": ("text/choice", tiny.write_choice),
    "own_ner": ("text/tagging", tiny.write_ner),
    "own_qa": ("text/qa", tiny.write_squad),
}
"""The task, and what writes its data."""


@pytest.fixture(scope="session")
def run_of(
    tmp_path_factory: pytest.TempPathFactory, folder_of: Callable[[str], Path]
) -> Callable[[str], Path]:
    """`run_of("rte")`: the folder of a finished run, made on first use, not to be changed."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            task, write = TASKS[name]
            data = write(folder / "data")
            section = {"name": task, "data": str(data), "max_len": 24}
            config = tiny.write_config(
                folder / "config.yaml", folder_of("bert"), data, task=section, report=["validation"]
            )
            # Long enough for the answers to differ from row to row.
            session, _metrics = tiny.trained(config, folder / "runs", "train.epochs=10")
            made[name] = session.resolved_run.directory.path
        return made[name]

    return get


def logged(run: Path) -> list[dict[str, Any]]:
    """The run's own prediction lines without the gold answers."""
    lines = (run / "predictions" / "validation.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "gold"} for line in lines]


def inputs(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that prediction lines were made of."""
    return [line["row"] for line in lines]


def assert_close(found: Any, wanted: Any) -> None:
    """Equal, numbers up to 1e-5."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_close(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-5)
    else:
        assert found == wanted


@pytest.mark.parametrize("name", TASKS)
def test_the_predictions_of_the_run_itself(run_of: Callable[[str], Path], name: str) -> None:
    path = run_of(name)
    wanted = logged(path)
    found = load(path, device="cpu").predict(inputs(wanted))
    assert found == wanted
    answers = {str(line["prediction"]) for line in wanted}
    assert len(answers) > 1, "a run that says one thing proves nothing"


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_batch_size_does_not_change_the_answers(
    run_of: Callable[[str], Path], name: str, size: int
) -> None:
    path = run_of(name)
    wanted = logged(path)
    assert_close(load(str(path)).predict(inputs(wanted), batch_size=size), wanted)


def test_the_best_checkpoint_answers(run_of: Callable[[str], Path]) -> None:
    run = load(run_of("rte"))
    rows = inputs(logged(run.directory))
    session, _ = run._best
    for parameter in session.learner.head.parameters():
        parameter.data.zero_()
    assert all(
        line["prediction"]["probabilities"]["entailment"] == pytest.approx(0.5)
        for line in run.predict(rows)
    )


def test_what_the_task_tuned_is_used(run_of: Callable[[str], Path]) -> None:
    """`null_threshold` of the checkpoint decides, not the config's."""
    run = load(run_of("squad"))
    rows = inputs(logged(run.directory))
    session, _ = run._best
    run.task.no_answer = True  # type: ignore[attr-defined]
    run.__dict__["_best"] = (session, {"null_threshold": -1e9})
    assert {line["prediction"]["answer"] for line in run.predict(rows)} == {""}


def test_metrics_and_config(run_of: Callable[[str], Path]) -> None:
    path = run_of("rte")
    run = load(path)
    assert run.metrics == json.loads((path / "metrics.json").read_text())
    assert run.config.train.lr == 0.05
    assert run.config.model_dump()["prompt_len"] == 3
    assert "_best" not in run.__dict__, "the model is loaded before it is needed"


def test_an_iterable_is_taken_a_chunk_at_a_time(run_of: Callable[[str], Path]) -> None:
    run = load(run_of("rte"))
    (row, *_) = inputs(logged(run.directory))
    taken = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal taken
        while True:
            taken += 1
            yield {**row, "idx": taken}

    lines = run.predict(endless(), batch_size=2)
    assert taken == 0
    assert [next(lines)["row"]["idx"] for _ in range(2 * BATCHES)] == list(
        range(1, 2 * BATCHES + 1)
    )
    assert taken == 2 * BATCHES
    next(lines)
    assert taken == 4 * BATCHES


def test_rows_keep_their_order_whatever_their_length(run_of: Callable[[str], Path]) -> None:
    rows: list[dict[str, Any]] = [
        {"tokens": ["dog"] * (1 + 7 * at % 30), "id": at} for at in range(40)
    ]
    found = load(run_of("ner")).predict(rows, batch_size=4)
    assert [line["row"]["id"] for line in found] == list(range(40))
    assert [len(line["prediction"]["tags"]) for line in found] == [
        len(row["tokens"]) for row in rows
    ]


def test_text_of_a_sentence(run_of: Callable[[str], Path]) -> None:
    run = load(run_of("ner"))
    (of_text,) = run.predict([{"text": "ann sat in paris"}])
    (of_words,) = run.predict([{"tokens": ["ann", "sat", "in", "paris"]}])
    assert of_text["row"] == {"text": "ann sat in paris", **of_words["row"]}
    assert of_text["prediction"] == of_words["prediction"]


def test_no_rows(run_of: Callable[[str], Path]) -> None:
    run = load(run_of("rte"))
    assert run.predict([]) == []
    assert list(run.predict(iter([]))) == []


def test_a_bad_row_comes_after_the_good_ones_before_it(run_of: Callable[[str], Path]) -> None:
    run = load(run_of("rte"))
    good = inputs(logged(run.directory))[:3]
    lines = run.predict(iter([*good, {"premise": "a"}, *good]))
    assert [next(lines)["row"]["idx"] for _ in range(3)] == [row["idx"] for row in good]
    with pytest.raises(DataError, match="rows:4: no column 'hypothesis'"):
        next(lines)


@pytest.mark.parametrize("row", [3, None, ["a"], ("a", 3)])
def test_what_is_no_row(run_of: Callable[[str], Path], row: Any) -> None:
    with pytest.raises(DataError, match=r"rows:1: is of the type \w+\n  -> a row is a dict"):
        load(run_of("rte")).predict([row])


def test_text_that_is_no_unicode(run_of: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match="rows:1: half a surrogate pair"):
        load(run_of("rte")).predict([{"premise": "a\ud800", "hypothesis": "b"}])


def test_batch_size_of_nothing(run_of: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="a batch cannot have 0 rows"):
        load(run_of("rte")).predict([{}], batch_size=0)


def test_out_of_memory_says_what_needs_less(
    run_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load(run_of("rte"))
    session, _ = run._best

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(session.learner, "forward", fail)
    with pytest.raises(MachineError, match=r"(?s)batches of 8 rows.*--batch-size 4"):
        run.predict(inputs(logged(run.directory)))


def test_the_data_of_the_run_may_be_gone(tmp_path: Path, folder_of: Callable[[str], Path]) -> None:
    data = tiny.write_rte(tmp_path / "data", train=8, validation=4)
    config = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data, train={"steps": 1})
    session, _ = tiny.trained(config, tmp_path / "runs")
    shutil.rmtree(data)
    path = session.resolved_run.directory.path
    wanted = logged(path)
    assert load(path).predict(inputs(wanted)) == wanted


def test_the_newest_run(
    run_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = run_of("rte")
    monkeypatch.chdir(path.parents[1])
    assert load().directory.resolve() == path.resolve()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="runs: holds no finished run"):
        load()


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such run directory"):
        load(tmp_path / "absent")


def test_ticks_are_rows(run_of: Callable[[str], Path]) -> None:
    """A long sentence is several features, and still one row."""
    run = load(run_of("ner"))
    rows = [{"tokens": ["dog"] * length} for length in (1, 90, 3, 60, 2)]
    ticks: list[int] = []
    records = [record_of(run.task, row, at) for at, row in enumerate(rows, 1)]
    list(run.chunks(records, 2, tick=ticks.append))
    assert sum(ticks) == 5
    assert len(ticks) > 3


def test_runs_are_opened_apart(run_of: Callable[[str], Path]) -> None:
    """Two runs in one process do not mix."""
    one, other = load(run_of("rte")), load(run_of("ner"))
    wanted = logged(one.directory)
    other.predict([{"text": "ann"}])
    assert one.predict(inputs(wanted)) == wanted
    assert replace(one._best[0].predictor).kind == "sequence"
    assert isinstance(one, Run)
