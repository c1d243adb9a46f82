"""`task: text/multilabel` and its head: read, scored as scikit-learn does, trained, predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional as F  # noqa: N812

from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.data.source import FolderSource
from ptv2_cli.errors import DataError
from ptv2_cli.inputs.batch import collate
from ptv2_cli.inputs.features import Feature
from ptv2_cli.tasks.catalog import load_task

LABELS = ("a", "b", "c")


def made(**options: Any) -> Any:
    return load_task("text/multilabel", {"labels": list(LABELS), **options})


def read(folder: Path, name: str, text: str, **options: Any) -> list[list[str]]:
    """The labels of each row of a train file."""
    (folder / name).write_text(text)
    task = made(**options)
    return [task.gold(row) for row in task.read(FolderSource(folder), "train").rows]


def test_labels_are_lists_or_text_with_a_separator(tmp_path: Path) -> None:
    lines = '{"text": "x", "labels": ["b", "a"]}\n{"text": "y", "labels": []}\n'
    rows = read(tmp_path, "train.jsonl", lines)
    assert rows == [["a", "b"], []]
    (tmp_path / "train.jsonl").unlink()
    rows = read(tmp_path, "train.csv", "text,labels\nx,b|c\n", separator="|")
    assert rows == [["b", "c"]]


@pytest.mark.parametrize("labels", ['["z"]', "5"])
def test_a_bad_label_names_the_line(tmp_path: Path, labels: str) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl:1"):
        read(tmp_path, "train.jsonl", f'{{"text": "x", "labels": {labels}}}\n')


def test_scores_are_those_of_scikit_learn() -> None:
    draws = np.random.default_rng(0)
    truth, guess = (draws.random((40, 3)) < 0.4 for _ in range(2))

    def named(matrix: Any) -> list[list[str]]:
        return [[label for label, on in zip(LABELS, row, strict=True) if on] for row in matrix]

    scores = made().score(
        [{"label": labels} for labels in named(truth)],
        [{"labels": labels} for labels in named(guess)],
    )
    for average in ("micro", "macro"):
        expected = f1_score(truth, guess, average=average)
        assert scores.metrics[f"f1_{average}"] == pytest.approx(expected)
    assert scores.metrics["exact_match"] == pytest.approx((truth == guess).all(axis=1).mean())
    assert 0.01 < scores.standard_error < 0.2


def test_the_loss_counts_labelled_rows_alone() -> None:
    from types import SimpleNamespace

    from ptv2_example.multilabel_head import MultiLabelHead

    from ptv2_cli.heads.base import HeadContext
    from ptv2_cli.rng import generator

    head = MultiLabelHead(
        HeadContext(8, 3, 0.0, "cls", lambda vectors: vectors, 0, generator(0, "init/head"))
    )
    labels = [[1.0, 0.0, 1.0], None, [0.0, 0.0, 0.0]]
    features = [Feature(at, [1, 2], label=label) for at, label in enumerate(labels)]
    batch = collate(features, 0, "multilabel")
    assert batch.targets == 2
    hidden = torch.randn(3, 2, 8)
    logits = head.linear(hidden[:, 0])[[0, 2]]
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([labels[0], labels[2]]))
    torch.testing.assert_close(head(hidden, batch).loss, expected)
    unlabelled = SimpleNamespace(labels=None, mask_at=None, attention_mask=batch.attention_mask)
    assert head(hidden, unlabelled).loss is None


def test_a_run_learns_predicts_and_keeps_its_scores(
    config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    path = config()
    assert ptv2(["train", str(path), "--output", str(output), "--device", "cpu"]) == 0
    (file,) = output.glob("*/metrics.json")
    metrics = json.loads(file.read_text())
    baseline = metrics["majority_baseline"]["f1_micro"]
    assert metrics["metrics"]["validation"]["f1_micro"] > baseline + 0.05
    assert ptv2(["eval", str(file.parent), "--device", "cpu"]) == 0
    capsys.readouterr()
    (tmp_path / "new.jsonl").write_text('{"text": "red runs"}\n')
    assert ptv2(["predict", "--run", str(file.parent), str(tmp_path / "new.jsonl")]) == 0
    line = json.loads(capsys.readouterr().out)
    assert set(line["prediction"]["probabilities"]) == {"animal", "colour"}
    assert set(line["prediction"]["labels"]) <= {"animal", "colour"}
