"""The splits of a run: holdouts, what is reported, and what identifies a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny

from ptv2_cli.config.load import load_config
from ptv2_cli.errors import DataError
from ptv2_cli.runs.resolved_run import prepare


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("rte"), train=40)


@pytest.fixture
def config(folder_of, data, tmp_path) -> Path:
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)


def mark(config: Path, *sets: str) -> str:
    return tiny.prepared(config, config.parent / "runs", sets).fingerprint


def test_only_a_train_file(folder_of, tmp_path) -> None:
    folder = tiny.write_rte(tmp_path / "alone", train=40, validation=0)
    config = tiny.write_config(tmp_path / "x.yaml", folder_of("bert"), folder)
    session, metrics = tiny.trained(config, tmp_path / "runs", "train.epochs=1")
    resolved = session.resolved
    assert (resolved.config.selection.split, resolved.config.selection.fraction) == ("holdout", 0.1)
    assert resolved.config.report == ("holdout",)
    assert any("a tenth of train is held out" in note for note in resolved.notes)
    assert any("a tenth of train is held out" in text for text in metrics["warnings"])
    assert (metrics["data"]["train"]["rows"], metrics["data"]["holdout"]["rows"]) == (36, 4)
    assert set(metrics["metrics"]) == {"holdout"}
    written = session.resolved_run.directory.config
    assert tiny.prepared(written, tmp_path / "runs").fingerprint == metrics["fingerprint"]


def test_holdout_keeps_the_reported_split_out_of_the_choice(config, tmp_path) -> None:
    sets = ("selection={split: holdout, fraction: 0.25}", "train.epochs=1")
    session, metrics = tiny.trained(config, tmp_path, *sets)
    assert metrics["selection"]["split"] == "holdout"
    assert set(metrics["metrics"]) == set(metrics["final"]) == {"validation"}
    assert len(session.resolved_run.data.rows("train")) == 30
    train = {row["idx"] for row in session.resolved_run.data.rows("train")}
    held = {row["idx"] for row in session.resolved_run.data.rows("holdout")}
    assert train | held == set(range(40))
    assert not train & held


def test_report_drops_a_test_split_that_is_not_there(folder_of, tmp_path) -> None:
    folder = tiny.write_ner(tmp_path / "ner")
    task = {"name": "ner/conll2003", "data": str(folder), "max_len": 24}
    config = tiny.write_config(tmp_path / "x.yaml", folder_of("bert"), folder, task=task)
    assert tiny.prepared(config, tmp_path).resolved.config.report == ("validation",)
    shutil.copy(folder / "valid.txt", folder / "test.txt")
    assert tiny.prepared(config, tmp_path).resolved.config.report == ("validation", "test")
    (folder / "test.txt").unlink()
    with pytest.raises(DataError, match="test"):
        tiny.prepared(config, tmp_path, ["report=[validation, test]"])


def test_a_reported_split_needs_labels(folder_of, tmp_path) -> None:
    folder = tiny.write_rte(tmp_path / "rte", test=4)
    lines = (folder / "test.jsonl").read_text().splitlines()
    bare = [{k: v for k, v in json.loads(line).items() if k != "label"} for line in lines]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    config = tiny.write_config(tmp_path / "x.yaml", folder_of("bert"), folder)
    with pytest.raises(DataError, match=r"test.jsonl: row 1 of the test split has no label"):
        tiny.prepared(config, tmp_path, ["report=[test]"])


def test_limits_take_the_first_rows(config, tmp_path) -> None:
    sets = ["task.limit={train: 8, validation: 3}"]
    data = tiny.prepared(config, tmp_path, sets).data
    assert [row["idx"] for row in data.rows("train")] == list(range(8))
    assert [row["idx"] for row in data.rows("validation")] == [0, 1, 2]


# Fingerprints


def test_fingerprint_ignores_places_and_names(config, data, folder_of, tmp_path) -> None:
    here = mark(config)
    moved = tiny.write_config(
        tmp_path / "elsewhere" / "other.yaml",
        shutil.copytree(folder_of("bert"), tmp_path / "model"),
        shutil.copytree(data, tmp_path / "moved"),
        name="renamed",
    )
    assert mark(moved) == here


@pytest.mark.parametrize(
    "change",
    [
        "train.seed=12",
        "train.lr=0.04",
        "prompt_len=4",
        "method.dropout=0.2",
        "task.max_len=23",
        "task.limit.train=9",
        "backbone.dropout=off",
        "head.pooling=cls",
        "train.eval_batch_size=4",
    ],
)
def test_fingerprint_knows_what_changes_results(change, config) -> None:
    assert mark(config, change) != mark(config)


def test_fingerprint_knows_the_data(config, data, folder_of, tmp_path) -> None:
    copy = shutil.copytree(data, tmp_path / "moved")
    changed = tiny.write_config(tmp_path / "x.yaml", folder_of("bert"), copy)
    assert mark(changed) == mark(config)
    text = (copy / "val.jsonl").read_text()
    (copy / "val.jsonl").write_text(text.replace(" dog", " cat", 1))
    assert mark(changed) != mark(config)


@pytest.mark.parametrize("method", ["finetune", "head_only"])
def test_fingerprint_of_a_method_without_prompt_ignores_its_length(method, config) -> None:
    with_length = mark(config, f"method={method}")
    assert mark(config, f"method={method}", "prompt_len=null") == with_length
    assert mark(config, f"method={method}", "prompt_len=9") == with_length


def test_defaults_written_out_are_the_same_run(config) -> None:
    assert mark(config, "method={name: p_tuning_v2, dropout: null, init: normal}") == mark(config)
    assert mark(config, "selection.metric=accuracy", "report=[validation]") == mark(config)


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("method={name: ptuning_v2, layers: last:2, init: {normal: 0.5}, dropout: off}",),
        ("method={name: ptuning_v2, layers: 2, reparam: mlp, position_offset: keep}",),
        ("method={name: prompt_tuning, init: labels, place: before_cls}",),
        ("method={name: ptuning_v1, encoder: mlp}",),
        ('method={name: ptuning_v1, template: "{p:3} {premise} {hypothesis} {mask}"}',),
        ("method=finetune", "train.warmup=0.1", "train.schedule=constant"),
        ("selection={split: holdout, fraction: 0.2}", "head={pooling: mean, lr: 1e-3}"),
    ],
)
def test_the_resolved_config_is_the_same_run(sets, config, tmp_path) -> None:
    session, metrics = tiny.trained(config, tmp_path / "runs", "train.epochs=1", *sets)
    directory = session.resolved_run.directory
    loaded = load_config(directory.path)
    again = prepare(loaded, tmp_path / "elsewhere", offline=True)
    assert again.fingerprint == metrics["fingerprint"]
    assert again.directory.path.name == directory.path.name
    assert again.resolved.config == session.resolved.config


def test_a_run_is_found_by_its_fingerprint(config, tmp_path) -> None:
    session, _ = tiny.trained(config, tmp_path / "runs", "train.epochs=1")
    path = session.resolved_run.directory.path
    assert path.name.startswith("run-ptuning_v2-p3-s11-")
    assert len(path.name.rsplit("-", 1)[1]) == 8
    again = tiny.prepared(config, tmp_path / "runs", ["train.epochs=1", "name=other"])
    assert again.directory.path == path
    assert again.directory.finished
