"""Rows of several tasks over one backbone: equal to each run by itself."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ptv2_cli.backbones.injection import combined
from ptv2_cli.backbones.sites import Prompts
from ptv2_cli.data.formats import RawRow
from ptv2_cli.errors import DataError, InputError
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction.multi_run_predict import MixedRuns
from ptv2_cli.runs.prediction.predict import Run

ROWS: list[dict[str, Any]] = [
    {"task": "rte", "premise": "the cat sat on the big red mat", "hypothesis": "ann likes a dog"},
    {"task": "rte", "premise": "a dog", "hypothesis": "bob ran"},
    {"task": "conll2003", "tokens": ["ann", "sat", "in", "paris"]},
    {"task": "conll2003", "tokens": ["rome"]},
    {"task": "squad", "context": "the cat saw dora here", "question": "who is it ?", "id": "q"},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {
        "superglue/rte": tiny.write_rte(folder / "rte"),
        "ner/conll2003": tiny.write_ner(folder / "ner"),
        "qa/squad": tiny.write_squad(folder / "squad"),
    }


def trained(folder: Path, backbone: Path, data, task: str, **changes: Any) -> Run:
    content: dict[str, Any] = {
        "task": {"name": task, "data": str(data[task]), "max_len": 24},
        "train": {"lr": 0.05, "epochs": 1, "batch_size": 8, "seed": 11},
        "report": ["validation"],
        **changes,
    }
    path = folder / f"{task.rsplit('/')[-1]}.yaml"
    config = tiny.write_config(path, backbone, data[task], **content)
    session, _ = tiny.trained(config, folder / "runs")
    return Run(RunDirectory(session.resolved_run.directory.path), device="cpu", offline=True)


def lines_of(which: Any, rows: list[dict[str, Any]], size: int = 8) -> list[dict[str, Any]]:
    records = [RawRow(dict(row), Path("rows"), at) for at, row in enumerate(rows, start=1)]
    return [line for chunk in which.chunks(records, size) for line in chunk.lines]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float):
        return other == pytest.approx(one, abs=1e-5)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


METHODS: dict[str, list[dict[str, Any]]] = {
    "lengths": [
        {"prompt_len": 2},
        {"prompt_len": 7},
        {"method": "head_only", "prompt_len": None},
    ],
    "edits": [
        {"method": {"name": "houlsby_adapter", "layers": "last:1"}, "prompt_len": None},
        {"method": {"name": "houlsby_adapter", "bottleneck": 4}, "prompt_len": None},
        {"method": {"name": "parallel_adapter", "layers": "2-3"}, "prompt_len": None},
    ],
    "layers": [
        {"method": {"name": "ptuning_v2", "layers": "1"}},
        {"method": {"name": "ptuning_v2", "layers": "2-3", "position_offset": "keep"}},
        {"method": {"name": "ptuning_v2", "reparam": "mlp", "reparam_hidden": 8}},
    ],
    "inputs": [
        {"method": "prompt_tuning"},
        {"method": "ptuning_v1", "prompt_len": 6},
        {"prompt_len": 4},
    ],
}


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "mpnet", "llama"])
@pytest.mark.parametrize("kind", list(METHODS))
def test_a_mixed_batch_equals_each_run_alone(kind, family, folder_of, data, tmp_path) -> None:
    if kind != "lengths" and family in {"roberta", "mpnet"}:
        pytest.skip("covered by the other families")
    runs = [
        trained(tmp_path, folder_of(family), data, task, **changes)
        for task, changes in zip(data, METHODS[kind], strict=True)
    ]
    rows = random.Random(1).sample(ROWS * 3, 15)
    found = lines_of(MixedRuns(runs), rows)
    by_name = dict(zip(("rte", "conll2003", "squad"), runs, strict=True))
    for row, line in zip(rows, found, strict=True):
        rest = {key: value for key, value in row.items() if key != "task"}
        (alone,) = lines_of(by_name[row["task"]], [rest])
        assert line["row"] == row
        assert same(alone["prediction"], line["prediction"]), (alone, line)


def test_what_attention_does_otherwise_goes_apart(folder_of, data, tmp_path) -> None:
    """Also where all rows would fit into one pass."""
    wide, separate = {"init": {"normal": 1.0}}, {"softmax": "separate"}
    runs = [
        trained(tmp_path, folder_of("bert"), data, task, method={"name": "ptuning_v2", **options})
        for task, options in zip(data, (wide, separate, separate), strict=True)
    ]
    found = lines_of(MixedRuns(runs), ROWS[:2] + ROWS[-1:], size=64)
    for row, line, run in zip(
        ROWS[:2] + ROWS[-1:], found, (runs[0], runs[0], runs[2]), strict=True
    ):
        rest = {key: value for key, value in row.items() if key != "task"}
        (alone,) = lines_of(run, [rest])
        assert same(alone["prediction"], line["prediction"]), (alone, line)


@pytest.mark.parametrize("family", ["t5", "bart", "bloom"])
def test_families_that_count_positions_inside(family, folder_of, data, tmp_path) -> None:
    runs = [
        trained(tmp_path, folder_of(family), data, "superglue/rte", prompt_len=2),
        trained(tmp_path, folder_of(family), data, "ner/conll2003", prompt_len=5),
    ]
    found = lines_of(MixedRuns(runs), ROWS[:4])
    for row, line, run in zip(ROWS, found, [runs[0]] * 2 + [runs[1]] * 2, strict=False):
        rest = {key: value for key, value in row.items() if key != "task"}
        (alone,) = lines_of(run, [rest])
        assert same(alone["prediction"], line["prediction"])


def test_one_pass_serves_all_runs_of_a_batch(folder_of, data, tmp_path, monkeypatch) -> None:
    from ptv2_cli.backbones.backbone import Backbone

    runs = [
        trained(tmp_path, folder_of("bert"), data, task, **changes)
        for task, changes in zip(data, METHODS["lengths"], strict=True)
    ]
    trainer = MixedRuns(runs)
    lines_of(trainer, ROWS)
    passes: list[int] = []
    own = Backbone.forward

    def counted(self, batch, prompts):
        passes.append(batch.input_ids.shape[0])
        return own(self, batch, prompts)

    monkeypatch.setattr(Backbone, "forward", counted)
    lines_of(trainer, ROWS)
    assert passes == [5]
    tables = {
        session.learner.backbone.word_embeddings.data_ptr() for session, _ in trainer._sessions
    }
    assert len(tables) == 1


def test_prompts_of_several_owners_stand_next_to_the_text(backbone_of) -> None:
    backbone = backbone_of("bert")
    short, long = (tiny.random_prompts(backbone, length, seed=length) for length in (2, 5))
    found = combined([short, Prompts(), long], [2, 1, 3])
    for at in range(3):
        keys, _ = found.keys_values[at]
        assert keys.shape == (3, 4, 5, 8)
        with backbone.injection.forward(found):
            rows = backbone.injection.per_row(keys, 6)
        assert torch.equal(rows[1, :, 3:], short.keys_values[at][0][0])
        assert torch.equal(rows[5], long.keys_values[at][0][0])
        assert found.mask[at].sum(dim=1).tolist() == [2, 2, 0, 5, 5, 5]


def refused(runs: list[Run]) -> str:
    with pytest.raises(InputError) as caught:
        MixedRuns(runs)
    return str(caught.value)


def test_what_cannot_be_mixed(folder_of, data, tmp_path) -> None:
    rte = trained(tmp_path / "a", folder_of("bert"), data, "superglue/rte")
    other = trained(tmp_path / "b", folder_of("albert"), data, "ner/conll2003")
    tuned = trained(tmp_path / "c", folder_of("bert"), data, "ner/conll2003", method="finetune")
    assert "one copy cannot serve both" in refused([rte, other])
    assert "the backbone of a finetune run trained" in refused([rte, tuned])
    assert "is named twice" in refused([rte, rte])


def test_a_row_has_to_name_its_run(folder_of, data, tmp_path) -> None:
    runs = [
        trained(tmp_path, folder_of("bert"), data, "superglue/rte"),
        trained(tmp_path, folder_of("bert"), data, "ner/conll2003"),
    ]
    trainer = MixedRuns(runs)
    for row, what in (({"premise": "a"}, "names no run"), ({"task": "x"}, "'x'")):
        with pytest.raises(DataError) as caught:
            lines_of(trainer, [row])
        assert what in str(caught.value)
        assert "conll2003" in str(caught.value)
    by_folder = {**ROWS[0], "task": runs[0].directory.name}
    (line,) = lines_of(trainer, [by_folder])
    assert line["prediction"]["label"] in {"entailment", "not_entailment"}


def test_the_command(folder_of, data, tmp_path, monkeypatch) -> None:
    from ptv2_cli.cli.app import main

    runs = [
        trained(tmp_path, folder_of("bert"), data, "superglue/rte"),
        trained(tmp_path, folder_of("bert"), data, "ner/conll2003"),
    ]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:4]))
    output = tmp_path / "out.jsonl"
    words = ["predict", str(rows), "--output", str(output), "--offline"]
    for run in runs:
        words += ["--run", str(run.directory)]
    monkeypatch.setattr(sys, "argv", ["ptv2", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["row"]["task"] for line in lines] == ["rte", "rte", "conll2003", "conll2003"]
    assert "label" in lines[0]["prediction"]
    assert "tags" in lines[2]["prediction"]
