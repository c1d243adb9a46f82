"""Questions with choices from config to report: every method, what is learnt, what is left."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from ptv2_cli import load
from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.data.rows import Split
from ptv2_cli.kinds import kind_spec
from ptv2_cli.report.compare import compare, open_finished
from ptv2_cli.runs.rows.row_selection import hold_out
from ptv2_cli.sweeps.estimate import _tokens
from ptv2_cli.training.batches import BatchPlan

METHODS: list[tuple[str, int | None, dict[str, Any]]] = [
    ("ptuning_v2", 4, {}),
    ("prompt_tuning", 4, {}),
    ("ptuning_v1", 6, {"template": "{p:2} {text} {p:2} {choice} {p:2} {mask}"}),
    ("ptuning_v1", 6, {}),
    ("finetune", None, {}),
    ("head_only", None, {}),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_choice(tmp_path_factory.mktemp("data"), 96, 48)


def write(path: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    section = {"name": "text/choice", "data": str(data), "max_len": 24}
    train = {"lr": 0.03, "epochs": 8, "batch_size": 8, "eval_batch_size": 7, "seed": 11}
    return tiny.write_config(path, backbone, data, **{"task": section, "train": train, **changes})


@pytest.fixture(scope="module")
def runs(
    folder_of: Callable[[str], Path], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """A run that learnt and one that had no time to: their folders and metrics.json."""
    root = tmp_path_factory.mktemp("runs")
    config = write(root / "config.yaml", folder_of("bert"), data)
    made = {}
    for name, sets in (("learnt", []), ("short", ["train.epochs=1", "train.lr=1e-6"])):
        session, metrics = tiny.trained(config, root / "out", *sets)
        made[name] = (session.resolved_run.directory.path, metrics)
    return made


def test_it_is_learnt(runs: dict[str, Any]) -> None:
    _, metrics = runs["learnt"]
    assert metrics["majority_baseline"]["accuracy"] < 0.6
    assert metrics["metrics"]["validation"]["accuracy"] > 0.9
    assert metrics["selection"]["metric"] == "accuracy"
    assert 0 <= metrics["standard_error"] < 0.05
    detail = metrics["detail"]["validation"]
    assert detail["choices"].keys() == detail["confusion"].keys() == {"0", "1", "2"}
    assert sum(figures["support"] for figures in detail["choices"].values()) == 48
    assert metrics["parameters"]["head"] == 32
    assert metrics["config"]["task"]["label_is"] == "index"
    assert metrics["config"]["head"] == {**metrics["config"]["head"], "name": "choice",
                                         "pooling": "pooler"}  # fmt: skip
    # Rows are questions, tokens those of all their choices.
    speed = metrics["timing"]
    assert speed["tokens_per_second"] > 15 * speed["examples_per_second"]


def lines_of(path: Path) -> list[dict[str, Any]]:
    text = (path / "predictions" / "validation.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_prediction_lines(runs: dict[str, Any], data: Path) -> None:
    path, metrics = runs["learnt"]
    lines = lines_of(path)
    rows = [json.loads(line) for line in (data / "val.jsonl").read_text().splitlines()]
    assert len(lines) == 48
    for row, line in zip(rows, lines, strict=True):
        found = line["prediction"]["probabilities"]
        assert [*found] == [str(at) for at in range(len(row["choices"]))]
        assert sum(found.values()) == pytest.approx(1)
        assert found[str(line["prediction"]["label"])] == max(found.values())
        assert line["gold"] == row["label"]
        assert line["row"] == row
    right = sum(line["prediction"]["label"] == line["gold"] for line in lines) / 48
    assert right == metrics["metrics"]["validation"]["accuracy"]


def test_order_of_the_choices_permutes_their_probabilities(runs: dict[str, Any]) -> None:
    rows = [line["row"] for line in lines_of(runs["learnt"][0])]
    run = load(runs["learnt"][0], device="cpu")
    plain = run.predict(rows)
    source = random.Random(3)
    orders = [source.sample(range(len(row["choices"])), len(row["choices"])) for row in rows]
    pairs = zip(rows, orders, strict=True)
    other = run.predict(
        [{**r, "choices": [r["choices"][at] for at in order]} for r, order in pairs]
    )
    assert any(order != sorted(order) for order in orders)
    for one, two, order in zip(plain, other, orders, strict=True):
        first, second = one["prediction"], two["prediction"]
        wanted = [first["probabilities"][str(at)] for at in order]
        assert list(second["probabilities"].values()) == pytest.approx(wanted, abs=1e-5)
        assert order[second["label"]] == first["label"]


@pytest.mark.parametrize(("name", "length", "options"), METHODS)
def test_every_method_runs(
    name: str,
    length: int | None,
    options: dict[str, Any],
    folder_of: Callable[[str], Path],
    data: Path,
    tmp_path: Path,
) -> None:
    method = {"name": name, **options}
    config = write(tmp_path / "x.yaml", folder_of("bert"), data, method=method, prompt_len=length)
    session, metrics = tiny.trained(config, tmp_path / "out", "train.epochs=1")
    assert metrics["status"] == "finished"
    assert metrics["metrics"]["validation"].keys() == {"accuracy"}
    features = session.data.features("train")
    assert len(features) == 96
    assert sum(len(feature.inputs) for feature in features) == 48 * 2 + 48 * 3
    assert all((item.mask_at is None) == (name != "ptuning_v1") for item in features[0].inputs)
    lr = session.resolved.method.defaults(kind_spec("choice")).lr
    assert lr == {"ptuning_v2": 9e-3, "prompt_tuning": 3e-2, "finetune": 2e-5}.get(name, 1e-3)


@pytest.mark.parametrize("family", ["gpt2", "roberta"])
def test_other_families(
    family: str, folder_of: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    task = {"name": "text/choice", "data": str(data), "max_len": 34}
    config = write(tmp_path / "x.yaml", folder_of(family), data, task=task)
    _, metrics = tiny.trained(config, tmp_path / "out", "train.epochs=1")
    assert metrics["status"] == "finished"


def test_the_runs_compared(runs: dict[str, Any]) -> None:
    found = compare([open_finished(runs["short"][0])], [open_finished(runs["learnt"][0])])
    assert found.tests["accuracy"].name == "mcnemar"
    assert found.labels is not None
    assert found.tests["accuracy"].p < 0.01
    lines = lines_of(runs["short"][0]), lines_of(runs["learnt"][0])
    only_b = sum(
        a["prediction"]["label"] != a["gold"] and b["prediction"]["label"] == b["gold"]
        for a, b in zip(*lines, strict=True)
    )
    assert found.labels.only_b == only_b > found.labels.only_a
    # The index of a wrong choice is not nearer to the right one than another.
    for row in found.disagreements:
        wanted = "a" if row.a == row.gold else "b" if row.b == row.gold else "-"
        assert row.better == wanted


def test_report_has_a_table_by_choice(
    runs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ptv2(["report", str(runs["learnt"][0]), "--detail", "--format", "markdown"]) == 0
    shown = capsys.readouterr().out
    assert "| choice | precision | recall | f1 | support |" in shown
    assert "gold \\ predicted" in shown.replace("\\\\", "\\")


def test_check_shows_each_choice(
    folder_of: Callable[[str], Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "x.yaml", folder_of("bert"), data)
    assert ptv2(["check", str(config), "--show", "2", "--set", "task.max_len=8"]) == 0
    shown = capsys.readouterr().out
    assert "text/choice, choice head, max_len 8" in shown
    assert "label: the index of the right choice, from 0" in " ".join(shown.split())
    second = shown.split("row 2 of train, gold: ")[1]
    assert [f"choice {at}, " in second for at in range(4)] == [True, True, True, False]
    assert "cut off at max_len 8: the last" in shown
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    assert int(second.split()[0]) == rows[1]["label"]


def test_eval_and_predict_commands(
    runs: dict[str, Any], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(runs["learnt"][0])
    assert ptv2(["eval", path]) == 0
    assert "equal" in capsys.readouterr().out
    out = tmp_path / "out.jsonl"
    arguments = [str(data / "val.jsonl"), "--run", path, "--output", str(out)]
    assert ptv2(["predict", *arguments]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    wanted = [line["prediction"]["label"] for line in lines_of(Path(path))]
    assert [line["prediction"]["label"] for line in found] == wanted
    assert all("gold" not in line for line in found)


def test_a_question_stays_in_one_batch(
    folder_of: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    session = tiny.opened(write(tmp_path / "x.yaml", folder_of("bert"), data), tmp_path / "out")
    features = session.data.features("train")
    plan = BatchPlan(features, 8, 1, 3, pad_id=0, kind="choice")
    assert plan.steps_per_epoch == 12
    for indices in plan.epoch(0):
        batch = plan.collate(indices)
        assert batch.rows == 8
        assert batch.choices is not None
        known = batch.choices[batch.choices >= 0].tolist()
        assert known == list(range(len(batch.input_ids)))
        # What a sweep's estimate of the time counts is what the loop counts.
        assert _tokens(features.take(indices)) == batch.tokens


def test_a_holdout_keeps_the_shares_of_the_indices(
    folder_of: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    session = tiny.opened(write(tmp_path / "x.yaml", folder_of("bert"), data), tmp_path / "out")
    rows = [{"text": str(at), "choices": ["a", "b"], "label": int(at >= 90)} for at in range(100)]
    for seed in range(6):
        _, held = hold_out(session.resolved.task, Split(rows, "0" * 64), 0.1, seed)
        assert sorted(row["label"] for row in held.rows) == [0] * 9 + [1]


def test_a_table_with_a_column_for_each_choice(
    folder_of: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    """The same questions as a csv whose label is the chosen text: the same features."""
    for split in ("train", "val"):
        rows = [json.loads(line) for line in (data / f"{split}.jsonl").read_text().splitlines()]
        lines = ["text,a,b,c,right"]
        for row in rows:
            cells = [*row["choices"], ""][:3]
            lines.append(",".join([row["text"], *cells, row["choices"][row["label"]]]))
        (tmp_path / f"{split}.csv").write_text("\n".join(lines))
    columns = {"choices": ["a", "b", "c"], "label": "right"}
    task = {"name": "text/choice", "data": str(tmp_path), "max_len": 24, **columns}
    plain = write(tmp_path / "plain.yaml", folder_of("bert"), data)
    config = write(tmp_path / "x.yaml", folder_of("bert"), data, task=task)
    one, other = (tiny.opened(path, tmp_path / "out") for path in (plain, config))
    assert one.data.features("train") == other.data.features("train")
    written = yaml.safe_load(other.resolved.config.model_dump_json())["task"]
    assert written["label_is"] == "text"
