"""What the runs of a sweep share, where the backbone's own head answers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import laned
import lm
import pytest
import tiny

from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.memory import peak_bytes
from ptv2_cli.sweeps.session_pool import SessionPool


def tables(path: Path, folder: Path, grid: str, split: str = "validation") -> list[FeatureTable]:
    """The features of a split in each trial of a sweep."""
    pool = SessionPool(tiny.CPU)
    found = []
    for trial in laned.plan([path], folder, grid=grid).trials:
        assert trial.resolved_run is not None
        found.append(pool.open(trial.resolved_run).data.features(split))
    return found


def test_runs_with_equal_demonstrations_share_tokens(tmp_path: Path) -> None:
    backbone, rows = lm.save_causal(tmp_path / "model"), lm.write_rows(tmp_path / "rows")
    path = tiny.write_config(
        tmp_path / "c.yaml",
        backbone,
        rows,
        method="none",
        head={"name": "verbalizer", "words": {"right": "true", "wrong": "false"}},
        task={
            "name": "text/classification",
            "data": str(rows),
            "demonstrations": 2,
            "max_len": 100,
        },
        prompt_len=None,
        train={"seed": 11},
    )
    grid = "train.seed=11,12 head.calibrate=null,batch"
    one, other, same = tables(path, tmp_path / "runs", grid)[:3]  # the seed changes first
    assert one is same
    assert one != other  # other demonstrations stand before the rows


def test_answers_with_other_room_share_none(tmp_path: Path) -> None:
    backbone, rows = lm.save_writer(tmp_path / "model", "gpt2"), lm.write_texts(tmp_path / "rows")
    path = tiny.write_config(
        tmp_path / "c.yaml",
        backbone,
        rows,
        prompt_len=3,
        task={"name": "text/generation", "data": str(rows), "max_len": 12},
        generate={"max_new_tokens": 8},
        train={"lr": 0.05, "epochs": 1, "batch_size": 8, "seed": 11},
    )
    one, same, other = tables(
        path, tmp_path / "runs", "generate.max_new_tokens=8,9 train.lr=0.05,0.1"
    )[:3]
    assert one is same
    assert one.tokens.sum() > other.tokens.sum()  # the input leaves more room


def test_prompts_that_begin_at_train_rows_keep_one_copy_of_them(
    tmp_path: Path, folder_of: Callable[[str], Path]
) -> None:
    """Each run has encoded them for its first values."""
    data = tiny.write_rte(tmp_path / "rte")
    method = {"name": "ptuning_v2", "init": "rows"}
    path = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data, method=method)
    one, same = tables(path, tmp_path / "runs", "train.lr=0.05,0.1", "train")
    assert one is same


def use(size: int) -> None:
    """Write to so many bytes, and free them."""
    bytearray(b"x") * size


@pytest.mark.skipif(sys.platform != "linux", reason="the system keeps the process's peak")
def test_a_trial_has_the_peak_of_its_own_memory(
    tmp_path: Path, folder_of: Callable[[str], Path]
) -> None:
    data = tiny.write_rte(tmp_path / "rte")
    path = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data)
    trials = laned.plan([path], tmp_path / "runs", grid="train.seed=1,2").trials
    one, other = (trial.resolved_run for trial in trials)
    assert one is not None
    assert other is not None
    pool = SessionPool(tiny.CPU)
    use(500_000_000)
    before = peak_bytes(tiny.CPU)
    pool.open(one)
    assert peak_bytes(tiny.CPU) < before - 300_000_000
    use(500_000_000)
    pool.open(other)  # the memory may belong to the first one, which trains still
    assert peak_bytes(tiny.CPU) > before - 100_000_000
    pool.close(one)
    pool.close(other)
    pool.open(one)
    assert peak_bytes(tiny.CPU) < before - 300_000_000
