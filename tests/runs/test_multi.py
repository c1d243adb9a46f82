"""Several tasks that share their prompts, end to end on tiny models."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ptv2_cli import load
from ptv2_cli.errors import InputError
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.rescore import open_for_rescoring

OTHER = {"ann": "B-Who", "bob": "B-Who", "oslo": "B-Place"}


def write_other(folder: Path, train: int = 20, validation: int = 10) -> Path:
    """Sentences with tags of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("valid", validation)):
        sentences = [
            "".join(
                f"{word} {OTHER.get(word, 'O')}\n" for word in [tiny.WORDS[at % 7], "sat", "on"]
            )
            for at in range(count)
        ]
        (folder / f"{name}.txt").write_text("\n".join(sentences))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return tiny.write_ner(folder / "ner"), write_other(folder / "other")


def write(tmp_path: Path, backbone: Path, data: tuple[Path, Path], **changes: Any) -> Path:
    content = {
        "task": None,
        "tasks": [
            {"name": "ner/conll2003", "data": str(data[0])},
            {"name": "text/tagging", "data": str(data[1])},
        ],
        "train": {"lr": 0.05, "epochs": 4, "batch_size": 8, "seed": 11},
        "report": ["validation"],
        **changes,
    }
    return tiny.write_config(tmp_path / "multi.yaml", backbone, data[0], **content)


def test_both_tasks_learn_and_are_scored_apart(folder_of, data, tmp_path) -> None:
    train = {"lr": 0.003, "epochs": 30, "batch_size": 8, "seed": 11}
    config = write(tmp_path, folder_of("bert"), data, train=train, method="finetune")
    session, metrics = tiny.trained(config, tmp_path / "runs")
    scores = metrics["metrics"]["validation"]
    assert scores["conll2003.f1"] > 0.3
    assert scores["tagging.f1"] > 0.5
    assert scores["mean"] == pytest.approx((scores["conll2003.f1"] + scores["tagging.f1"]) / 2)
    assert metrics["selection"]["metric"] == "mean"
    assert metrics["task"]["name"] == "multi: conll2003 + tagging"
    assert set(metrics["detail"]["validation"]) == {"conll2003", "tagging"}
    heads = session.learner.head.heads
    assert [head.linear.out_features for head in heads] == [9, 5]
    again = open_for_rescoring(
        RunDirectory(session.resolved_run.directory.path),
        split=None,
        data=None,
        device=tiny.CPU,
        offline=True,
    )
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}
    last = json.loads(session.resolved_run.directory.history.read_text().splitlines()[-1])
    words = {"conll2003": 0, "tagging": 0}
    for row in session.resolved_run.data.rows("validation"):
        words[row["task"]] += len(row["tokens"])
    losses = last["validation_losses"]
    assert losses.keys() == words.keys()
    whole = sum(losses[name] * count for name, count in words.items()) / sum(words.values())
    assert last["validation_loss"] == pytest.approx(whole, rel=1e-5)


def test_the_resolved_config_is_the_same_run(folder_of, data, tmp_path) -> None:
    config = write(tmp_path, folder_of("bert"), data)
    session, _ = tiny.trained(config, tmp_path / "runs", "train.epochs=1")
    written = session.resolved_run.directory.config
    assert tiny.prepared(written, tmp_path / "runs").fingerprint == session.resolved_run.fingerprint
    moved = tuple(path.rename(tmp_path / path.name) for path in data)
    try:
        other = write(tmp_path / "x", folder_of("bert"), moved)
        there = tiny.prepared(other, tmp_path / "runs", ["train.epochs=1"])
        assert there.fingerprint == session.resolved_run.fingerprint
    finally:
        for now, then in zip(moved, data, strict=True):
            now.rename(then)


def test_paths_are_relative_to_the_file_and_max_len_is_each_task_s_own(
    folder_of, data, tmp_path
) -> None:
    near = [os.path.relpath(path, tmp_path) for path in data]
    tasks = [
        {"name": "ner/conll2003", "data": near[0], "max_len": 7},
        {"name": "text/tagging", "data": near[1]},
    ]
    session = tiny.opened(write(tmp_path, folder_of("bert"), data, tasks=tasks), tmp_path / "runs")
    features = session.data.features("train")
    longest = [max(len(f.input_ids) for f in features if f.task == task) for task in (0, 1)]
    assert longest == [7, 5]
    whole = tiny.opened(write(tmp_path, folder_of("bert"), data), tmp_path / "runs")
    assert max(len(f.input_ids) for f in whole.data.features("train")) > 7


def test_a_preview_tells_what_each_task_cuts_off(folder_of, data, tmp_path) -> None:
    from ptv2_cli.runs.rows.preview import preview

    tasks = [
        {"name": "text/tagging", "data": str(data[1]), "max_len": 4},
        {"name": "ner/conll2003", "data": str(data[0])},
    ]
    session = tiny.opened(write(tmp_path, folder_of("bert"), data, tasks=tasks), tmp_path / "runs")
    encoder = session.data.encoder
    (first,) = session.resolved.task.encode(
        session.resolved_run.data.rows("train")[:1], encoder.unlimited(1000)
    )
    assert len(first.input_ids) == 5
    lines = list(preview(session.resolved, session.data, 1))
    assert any("window 1 of 2" in line for line in lines)


def test_offline_every_task_that_is_not_here_is_named(folder_of, data, tmp_path) -> None:
    tasks = ["superglue/rte", {"name": "superglue/cb", "data": str(data[0])}, "superglue/boolq"]
    config = write(tmp_path, folder_of("bert"), data, tasks=tasks)
    with pytest.raises(InputError) as caught:
        tiny.prepared(config, tmp_path / "runs")
    text = str(caught.value)
    assert "(rte," in text
    assert "(boolq," in text
    assert "(cb," not in text


def test_every_batch_is_of_one_task_and_only_its_head_gets_gradient(
    folder_of, data, tmp_path
) -> None:
    session = tiny.opened(write(tmp_path, folder_of("bert"), data), tmp_path / "runs")
    batches = session.new_lane().batches
    seen = set()
    for rows in batches.epoch(0):
        batch = batches.collate(rows)
        assert {batches.features[row].task for row in rows} == {batch.task}
        session.learner.zero_grad()
        session.learner(batch).loss.backward()
        moved = [head.linear.weight.grad is not None for head in session.learner.head.heads]
        assert moved == [batch.task == 0, batch.task == 1]
        assert session.learner.method.source.prompt.grad.abs().sum() > 0
        seen.add(batch.task)
    assert seen == {0, 1}


def test_a_report_sets_it_beside_runs_of_one_task(folder_of, data, tmp_path) -> None:
    from ptv2_cli.report.build import build_report
    from ptv2_cli.report.html.page import page
    from ptv2_cli.report.pictures.curves import learning_curves
    from ptv2_cli.report.runs import find_runs

    runs = tmp_path / "runs"
    _, metrics = tiny.trained(write(tmp_path, folder_of("bert"), data), runs)
    task = {"name": "ner/conll2003", "data": str(data[0])}
    single = tiny.write_config(
        tmp_path / "single.yaml", folder_of("bert"), data[0], task=task, report=["validation"]
    )
    _, alone = tiny.trained(single, runs)
    report = build_report(find_runs([runs]))
    assert [column.task for column in report.columns] == ["ner/conll2003", "text/tagging"]
    cells = {line.key.method: line.cells for line in report.lines}
    assert set(cells) == {"ptuning_v2", "ptuning_v2, 2 tasks"}
    first, second = report.columns
    scores = metrics["metrics"]["validation"]
    assert cells["ptuning_v2, 2 tasks"][first].mean == scores["conll2003.f1"]
    assert cells["ptuning_v2, 2 tasks"][second].mean == scores["tagging.f1"]
    assert cells["ptuning_v2"][first].mean == alone["metrics"]["validation"]["f1"]
    assert second not in cells["ptuning_v2"]
    labels = {series.label for series in learning_curves(report, first).series}
    assert labels == {"ptuning_v2 p3", "ptuning_v2, 2 tasks p3"}
    text = page(report)
    shown = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])["runs"]
    # The run of both tasks is shown once for each, with rows of its own.
    views = [run for run in shown if run["title"].startswith("ptuning_v2, 2 tasks")]
    assert [run["column"] for run in views] == [0, 1]
    assert len({run["mark"] for run in shown}) == len({run["set"] for run in views}) + 1 == 3
    assert all(run["history"][0][1] is not None for run in views)
    own = build_report(find_runs([runs]), metric="mean")
    assert [column.metric for column in own.columns] == ["mean"]


def test_the_prompt_goes_on_with_one_task(folder_of, data, tmp_path) -> None:
    session, _ = tiny.trained(write(tmp_path, folder_of("bert"), data), tmp_path / "runs")
    method = {"name": "ptuning_v2", "init": {"run": str(session.resolved_run.directory.path)}}
    task = {"name": "ner/conll2003", "data": str(data[0])}
    single = tiny.write_config(
        tmp_path / "single.yaml", folder_of("bert"), data[0], method=method, task=task
    )
    prompt = session.load_best() and session.learner.method.source.prompt
    begun = tiny.opened(single, tmp_path / "runs").learner.method.source.prompt
    assert torch.equal(begun, prompt)


def test_predicted_rows_name_their_task(folder_of, data, tmp_path) -> None:
    session, _ = tiny.trained(write(tmp_path, folder_of("bert"), data), tmp_path / "runs")
    run = load(session.resolved_run.directory.path, offline=True)
    rows = [
        {"task": "tagging", "tokens": ["ann", "sat"]},
        {"task": "conll2003", "tokens": ["paris", "sat", "on"]},
    ]
    found = run.predict(rows)
    assert [len(line["prediction"]["tags"]) for line in found] == [2, 3]
    assert all(
        tag in {"O", "B-Who", "B-Place", "I-Who", "I-Place"}
        for tag in found[0]["prediction"]["tags"]
    )
    with pytest.raises(InputError, match="names no task"):
        run.predict([{"tokens": ["ann"]}])


def test_predictions_carry_their_task(folder_of, data, tmp_path) -> None:
    session, _ = tiny.trained(write(tmp_path, folder_of("bert"), data), tmp_path / "runs")
    path = session.resolved_run.directory.predictions("validation")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0].keys() == {"task", "row", "prediction", "gold"}
    assert [line["task"] for line in lines] == ["conll2003"] * 16 + ["tagging"] * 10
    assert all(len(line["prediction"]["tags"]) == len(line["gold"]) for line in lines)


def test_tasks_of_one_name_are_numbered(folder_of, data, tmp_path) -> None:
    tasks = [{"name": "ner/conll2003", "data": str(data[0])}] * 2
    config = write(tmp_path, folder_of("bert"), data, tasks=tasks)
    task = tiny.prepared(config, tmp_path / "runs").resolved.task
    assert task.names == ("conll2003-1", "conll2003-2")
    assert "conll2003-2.f1" in task.metrics


def test_rows_of_another_train_set_are_told(folder_of, data, tmp_path) -> None:
    same = (data[0], data[0])
    config = write(tmp_path, folder_of("bert"), same)
    content = config.read_text().replace("text/tagging", "ner/conll2003")
    config.write_text(content)
    (tmp_path / "leak").mkdir()
    text = (data[0] / "train.txt").read_text()
    for name in ("train", "valid"):
        (tmp_path / "leak" / f"{name}.txt").write_text(text)
    leaky = write(tmp_path, folder_of("bert"), (data[0], tmp_path / "leak"))
    _, metrics = tiny.trained(leaky, tmp_path / "runs", "train.epochs=1")
    assert any(
        "rows that tagging is evaluated on are in the train set of conll2003" in line
        for line in metrics["warnings"]
    )
    _, clean = tiny.trained(
        write(tmp_path, folder_of("bert"), data), tmp_path / "runs", "train.epochs=1"
    )
    assert not any("train set of" in line for line in clean["warnings"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["superglue/rte", "ner/conll2003"]}, "tasks of one run are of one kind"),
        ({"tasks": ["superglue/rte", "superglue/xyz"]}, "unknown task 'superglue/xyz'"),
        ({"tasks": ["superglue/rte"]}, "one task alone shares nothing"),
        ({"tasks": "superglue/rte"}, "list"),
        (
            {"tasks": ["superglue/rte", {"name": "superglue/cb", "stride": 3}]},
            "unknown key stride",
        ),
        ({"task": "superglue/rte"}, "tasks and task cannot both be given"),
        (
            {"tasks": ["superglue/rte", {"name": "superglue/cb", "demonstrations": 2}]},
            "demonstrations cannot be set for one",
        ),
        (
            {"tasks": ["superglue/cb", {"name": "superglue/cb", "limit": {"sample": "random"}}]},
            "limit.sample cannot be set for one",
        ),
        (
            {"tasks": ["superglue/rte", "superglue/cb"], "head": "verbalizer"},
            "the verbalizer answers a text or a pair",
        ),
    ],
)
def test_what_cannot_be_trained_together(changes, message, folder_of, data, tmp_path) -> None:
    named = changes.get("tasks")
    if isinstance(named, list):  # with data, or it would be missed first
        parts = [part if isinstance(part, dict) else {"name": part} for part in named]
        tasks = [{**part, "data": str(data[0])} for part in parts]
        changes = {**changes, "tasks": tasks}
    config = write(tmp_path, folder_of("bert"), data, **changes)
    with pytest.raises(InputError) as caught:
        tiny.prepared(config, tmp_path / "runs")
    text = str(caught.value)
    assert message in text, text
    assert "multi.yaml" in text
    assert not (tmp_path / "runs").exists()
