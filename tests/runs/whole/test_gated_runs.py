"""Runs whose prompts do more inside attention: resumed, opened again, as lanes, and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
from once_more import assert_read_again, method_tensors, trained_twice

from ptv2_cli.errors import RunError
from ptv2_cli.interop.opened import open_finished
from ptv2_cli.interop.to_peft import export_peft
from ptv2_cli.runs import trainer
from ptv2_cli.runs.inspection.attention import attention_on_prompt

FolderOf = Callable[[str], Path]
SEPARATE = {"name": "ptuning_v2", "softmax": "separate"}
PLUS = {"name": "prefix_tuning_plus"}
APT = {"name": "ptuning_v2", "gates": "apt"}
METHODS: dict[str, dict[str, Any]] = {
    "separate": SEPARATE,
    "plus": PLUS,
    "apt": APT,
    "both": {**SEPARATE, **APT},
}
TRAIN = {"lr": 0.05, "epochs": 2, "batch_size": 4, "eval_batch_size": 8, "seed": 11}
FEW = {"steps": 6, "eval_every": 3}


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("data") / "rte", train=20, validation=12)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_ends_like_one_that_was_not(
    method: str, folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    """With all dropouts on; what it has learnt is read again, and scores the same."""
    config = tiny.write_config(
        tmp_path / "c.yaml", folder_of("bert"), rte, method=METHODS[method], train=TRAIN
    )
    run, metrics = trained_twice(config, tmp_path)
    learnt = sum(tensor.numel() for tensor in method_tensors(run).values())
    assert metrics["parameters"]["prompt"] + metrics["parameters"]["reparam"] == learnt
    assert_read_again(run)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_a_lane_is_the_trial_alone(
    method: str, family: str, folder_of: FolderOf, rte: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(trainer, "CPU_ROWS", 64)
    trials = [
        {"method": METHODS[method], "prompt_len": 3, "train": {"lr": 0.05}},
        {"method": METHODS[method], "prompt_len": 6, "train": {"batch_size": 7}},
        {"method": {**METHODS[method], "layers": "last:1"}, "train": {"seed": 12}},
    ]
    configs = laned.write(tmp_path, folder_of(family), rte, *trials, train=FEW)
    alone = laned.sweep(configs, tmp_path / "alone", 1)
    lanes = laned.sweep(configs, tmp_path / "lanes", 3)
    assert {run.metrics["lanes"] for run in lanes.runs} == {3}
    for run, lane in zip(alone.runs, lanes.runs, strict=True):
        laned.assert_same(run, lane)
    assert len({run.losses[-1] for run in alone.runs}) == len(trials)


@pytest.mark.parametrize("method", METHODS)
def test_a_family_with_an_attention_of_its_own_is_refused(
    method: str, folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    path = tiny.write_config(
        tmp_path / "c.yaml", folder_of("deberta-v2"), rte, method=METHODS[method]
    )
    message = tiny.problems(path)
    assert "deberta-v2 has an attention of its own, which cannot do this: " in message
    assert "method: ptuning_v2" in message


@pytest.mark.parametrize("method", METHODS)
def test_peft_cannot_hold_it(method: str, folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    config = tiny.write_config(
        tmp_path / "c.yaml", folder_of("bert"), rte, method=METHODS[method], train=TRAIN
    )
    session, _ = tiny.trained(config, tmp_path / "runs")
    run = open_finished(session.resolved_run.directory, offline=True)
    with pytest.raises(RunError, match=r"PEFT's prefix (shares|is the same)|no prompt to export"):
        export_peft(run, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    if method == "separate":
        assert attention_on_prompt(session, session.data.features("validation")) == []
