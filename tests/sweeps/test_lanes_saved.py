"""Lanes are saved all at once: a kill at any file operation leaves a sweep that ends bit-equal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
from left_behind import assert_bit_equal, assert_tidy

from ptv2_cli.runs import trainer
from ptv2_cli.runs.trainer import Trainer

FolderOf = Callable[[str], Path]
OPERATIONS = ("fsync", "replace", "unlink", "mkdir")
EVERY = int(os.environ.get("PTV2_KILL_EVERY", "67"))
"""Of how many file operations one is tried; 1 takes a quarter of an hour."""
OWN = {"method": {"name": "ptuning_v2", "dropout": 0.3}, "head": {"dropout": 0.2}}
TRIALS = [
    {"prompt_len": 3, **OWN, "train": {"steps": 4, "eval_every": 2}},
    # Saves of the others fall into the middle of its steps.
    {"prompt_len": 5, **OWN, "train": {"accumulate": 2, "batch_size": 2, "steps": 3}},
    {"prompt_len": 2, "train": {"lr": 1e30, "steps": 2, "eval_every": 1}},
    {"method": "head_only", "prompt_len": None, "train": {"steps": 2, "eval_every": 2}},
]


class Killed(BaseException):
    """The process ends here: nothing below is caught, and no file is touched any more."""


@contextmanager
def killed_at(number: int | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """End at the N-th file operation and let no later one through; the operations so far."""
    done: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        really = getattr(os, name)

        def operation(*args: Any, **options: Any) -> Any:
            done.append(name)
            if number is not None and len(done) >= number:
                raise Killed
            return really(*args, **options)

        return operation

    with monkeypatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, counted(name))
        yield done


@pytest.fixture(scope="module")
def configs(folder_of: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("configs")
    rte = tiny.write_rte(folder / "rte", train=12, validation=6, test=4)
    train = {"eval_every": 3}
    return laned.write(
        folder, folder_of("bert"), rte, *TRIALS, dropout=0.1, train=train,
        report=["validation", "test"],
    )  # fmt: skip


def test_a_sweep_killed_at_a_file_operation_ends_bit_equal(
    configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SAVE_SECONDS", -1.0)  # lanes are saved after every step
    monkeypatch.setenv("PTV2_CACHE", "off")  # else the first sweep alone would write there
    saves: list[range] = []
    really = Trainer._save_all

    def save_all(self: Trainer) -> None:
        began = len(done)
        really(self)
        saves.append(range(began + 1, len(done) + 1))

    with killed_at(None, monkeypatch) as done, monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_all", save_all)
        whole = laned.sweep(configs, tmp_path / "whole", 2)
    assert whole.statuses == ["finished", "finished", "diverged", "finished"]
    # One save of two lanes and their best weights, whole; of all else, every N-th operation.
    longest = max(saves, key=len)
    assert len(longest) >= 16
    for number in sorted({*longest, *range(1, len(done) + 1, EVERY)}):
        output = tmp_path / f"killed{number}"
        with killed_at(number, monkeypatch), pytest.raises(Killed):
            laned.sweep(configs, output, 2)
        again = laned.sweep(configs, output, 2)
        assert again.statuses == whole.statuses
        for one, other in zip(whole.runs, again.runs, strict=True):
            assert_bit_equal(one.folder, other.folder)
            assert_tidy(other.folder)
        shutil.rmtree(output)
