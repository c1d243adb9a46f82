"""Runs that train adapters or biases: resumed, opened again, as lanes, writing, and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import laned
import lm
import pytest
import tiny
from laned import assert_same
from once_more import assert_read_again, method_tensors, trained_twice

from ptv2_cli.errors import BackboneError, ConfigError, RunError
from ptv2_cli.interop.opened import open_finished
from ptv2_cli.interop.to_peft import export_peft
from ptv2_cli.runs import trainer
from ptv2_cli.runs.prediction.multi_run_predict import MixedRuns
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.sweeps.compatibility import alone
from ptv2_cli.training.events import StepDone

FolderOf = Callable[[str], Path]
HOULSBY = {"name": "houlsby_adapter", "bottleneck": 4}
PARALLEL = {"name": "parallel_adapter", "bottleneck": 4}
METHODS: dict[str, dict[str, Any]] = {
    "bitfit": {"name": "bitfit"},
    "houlsby": HOULSBY,
    "parallel": PARALLEL,
}
TRAIN = {"lr": 0.02, "epochs": 2, "batch_size": 4, "eval_batch_size": 8, "seed": 11}
FEW = {"steps": 6, "eval_every": 3, "lr": 0.02}


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("data") / "rte", train=20, validation=12)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_ends_like_one_that_was_not(
    method: str, folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    """With the backbone's dropout on; what it has learnt is read again, and scores the same."""
    config = tiny.write_config(
        tmp_path / "c.yaml",
        folder_of("bert"),
        rte,
        method=METHODS[method],
        prompt_len=None,
        train=TRAIN,
    )
    run, metrics = trained_twice(config, tmp_path)
    own = method_tensors(run)
    assert metrics["parameters"]["adapter"] == sum(tensor.numel() for tensor in own.values())
    assert metrics["parameters"]["prompt"] == 0
    assert any(tensor.abs().max() > 0.01 for tensor in own.values())
    assert_read_again(run)


@pytest.mark.parametrize(
    ("family", "dropout"),
    [("bert", 0.1), ("bert", "off"), ("opt", 0.1), ("bart", 0.1), ("deberta-v2", "off")],
)
def test_a_lane_is_the_trial_alone(
    family: str,
    dropout: float | str,
    folder_of: FolderOf,
    rte: Path,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    """Beside lanes with prompts and with nothing; without dropout, lower layers are kept."""
    monkeypatch.setattr(trainer, "CPU_ROWS", 64)
    trials: list[dict[str, Any]] = [
        {"method": METHODS["bitfit"]},
        {"method": HOULSBY},
        {"method": {**HOULSBY, "layers": "last:1"}, "train": {"batch_size": 7}},
        {"method": PARALLEL, "train": {"seed": 12}},
        {"method": "ptuning_v2", "prompt_len": 3, "train": {"batch_size": 6}},
        {"method": "head_only"},
    ]
    if family == "deberta-v2":
        del trials[0]
    configs = laned.write(
        tmp_path, folder_of(family), rte, *trials, dropout=dropout, prompt_len=None, train=FEW
    )
    alone = laned.sweep(configs, tmp_path / "alone", 1)
    lanes = laned.sweep(configs, tmp_path / "lanes", len(trials))
    assert {run.metrics["lanes"] for run in lanes.runs} == {len(trials)}
    for run, lane in zip(alone.runs, lanes.runs, strict=True):
        assert_same(run, lane)
    assert len({run.losses[-1] for run in alone.runs}) == len(trials)


def test_biases_of_a_table_that_all_rows_share_are_no_lane(
    folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    reasons: dict[str, Any] = {}
    for family in ("deberta-v2", "bert"):
        path = tmp_path / f"{family}.yaml"
        config = tiny.write_config(path, folder_of(family), rte, method="bitfit", prompt_len=None)
        reasons[family] = alone(tiny.prepared(config, tmp_path / "runs"))
    what = "bitfit in deberta-v2 changes positions that all rows of a pass share"
    assert reasons == {"deberta-v2": ("method", what), "bert": None}
    session, _ = tiny.trained(tmp_path / "deberta-v2.yaml", tmp_path / "runs")
    with pytest.raises(ConfigError, match=what):
        MixedRuns([Run(session.resolved_run.directory, offline=True)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", ["checkpointing", "bf16"])
def test_other_ways_to_compute(
    method: str, change: str, folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    """Recomputed activations give the same losses with dropout on, bf16 nearly the same."""
    changed = (
        {"gradient_checkpointing": True} if change == "checkpointing" else {"precision": "bf16"}
    )
    losses: list[list[float]] = []
    for name, extra in (("plain", {}), ("changed", changed)):
        config = tiny.write_config(
            tmp_path / f"{name}.yaml",
            folder_of("bert"),
            rte,
            method=METHODS[method],
            prompt_len=None,
            train={**TRAIN, **extra},
        )
        seen: list[float] = []

        def note(event: Any, seen: list[float] = seen) -> None:
            if isinstance(event, StepDone):
                seen.append(float(event.loss))

        tiny.trained(config, tmp_path / name, listen=note)
        losses.append(seen)
    tolerance = 1e-5 if change == "checkpointing" else 0.15
    assert losses[1] == pytest.approx(losses[0], abs=tolerance, rel=tolerance)
    assert losses[0][-1] != losses[0][0]


@pytest.mark.parametrize("method", ["bitfit", "houlsby", "parallel"])
@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_a_text_is_written_token_by_token(method: str, family: str, tmp_path: Path) -> None:
    """With the cache that generation uses: each new token passes the adapters by itself."""
    rows = lm.write_texts(tmp_path / "rows")
    folder = lm.save_writer(tmp_path / "model", family)
    config = tiny.write_config(
        tmp_path / "c.yaml",
        folder,
        rows,
        method=METHODS[method],
        prompt_len=None,
        train=TRAIN,
        generate={"max_new_tokens": 8},
        task={"name": "text/generation", "data": str(rows), "max_len": 36},
    )
    session, metrics = tiny.trained(config, tmp_path / "runs")
    assert metrics["parameters"]["adapter"] > 0
    whole = session.resolved_run.directory
    opened = open_for_rescoring(whole, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in opened.evaluate("validation")} == {"equal"}


def test_a_backbone_without_biases_is_refused(
    folder_of: FolderOf, rte: Path, tmp_path: Path
) -> None:
    config = tiny.write_config(
        tmp_path / "c.yaml", folder_of("llama"), rte, method="bitfit", prompt_len=None, train=TRAIN
    )
    with pytest.raises(BackboneError, match="bitfit trains biases"):
        tiny.opened(config, tmp_path / "runs")


def test_bad_options_are_named(folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    def message(**method: Any) -> str:
        path = tmp_path / "c.yaml"
        return tiny.problems(
            tiny.write_config(path, folder_of("bert"), rte, method=method, prompt_len=None)
        )

    assert "layer 9 does not exist" in message(name="houlsby_adapter", layers="9")
    assert "method.bottleneck" in message(name="parallel_adapter", bottleneck=0)
    assert "houlsby_adapter" in message(name="adapter")
    assert "method.scale" in message(name="parallel_adapter", scale=-1)


@pytest.mark.parametrize("method", METHODS)
def test_peft_cannot_hold_it(method: str, folder_of: FolderOf, rte: Path, tmp_path: Path) -> None:
    config = tiny.write_config(
        tmp_path / "c.yaml",
        folder_of("bert"),
        rte,
        method=METHODS[method],
        prompt_len=None,
        train=TRAIN,
    )
    session, _ = tiny.trained(config, tmp_path / "runs")
    run = open_finished(session.resolved_run.directory, offline=True)
    with pytest.raises(RunError, match=f"{METHODS[method]['name']}: there is no prompt"):
        export_peft(run, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
