"""No pair of weights and split is evaluated twice in a run: the best predictions are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from left_behind import assert_bit_equal, assert_tidy

from ptv2_cli.errors import Interrupted
from ptv2_cli.runs import evaluation as evaluation_module
from ptv2_cli.runs import recorder
from ptv2_cli.runs.directory import open_run
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.runs.trainer import Trainer
from ptv2_cli.training import checkpoint

SPLITS = {12: "validation", 10: "test"}
"""Rows -> split."""
CALM = ("train.lr=1e-9",)
"""All evaluations are equal, so that the first is the best."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("rte"), test=10)


@pytest.fixture
def config(folder_of: Callable[[str], Path], data: Path, tmp_path: Path) -> Path:
    return tiny.write_config(
        tmp_path / "run.yaml", folder_of("bert"), data, report=["validation", "test"]
    )


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The split of every evaluation, in order."""
    seen: list[str] = []
    really = evaluation_module.predict

    def predict(requests: Any, *rest: Any) -> Any:
        seen.extend(SPLITS[len(request.features)] for request in requests)
        return really(requests, *rest)

    monkeypatch.setattr(evaluation_module, "predict", predict)
    return seen


def alter(path: Path, key: str) -> None:
    """Give a checkpoint's state another value, with a checksum that fits."""
    body = json.loads(path.read_text())
    body.pop("checksum")
    where = body if key in body else body["state"]
    where[key] = {"step": 1000, "fingerprint": "0" * 8}[key]
    path.write_text(json.dumps({**body, "checksum": checkpoint._checksum(body)}))


def run_of(folder: Path) -> Path:
    (found,) = (path.parent for path in folder.glob("*/config.yaml"))
    return found


def test_an_early_best_needs_the_other_split_twice(
    config: Path, tmp_path: Path, evaluated: list[str]
) -> None:
    _, metrics = tiny.trained(config, tmp_path, *CALM)
    assert metrics["selection"]["epoch"] == 1
    # Three epochs; then test with the last and with the best weights.
    assert evaluated == ["validation"] * 3 + ["test"] * 2


def test_a_best_at_the_end_needs_the_other_split_once(
    config: Path, tmp_path: Path, evaluated: list[str]
) -> None:
    _, metrics = tiny.trained(config, tmp_path, "train.epochs=1")
    assert evaluated == ["validation", "test"]
    assert metrics["final"] == metrics["metrics"]
    assert set(metrics["final"]) == {"validation", "test"}


def test_only_the_chosen_split_is_reported(
    config: Path, tmp_path: Path, evaluated: list[str]
) -> None:
    tiny.trained(config, tmp_path, *CALM, "report=[validation]")
    assert evaluated == ["validation"] * 3


@pytest.mark.parametrize("sets", [CALM, ("train.epochs=2",)])
def test_what_is_kept_is_what_the_best_weights_give(
    sets: tuple[str, ...], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.trained(config, tmp_path / "kept", *sets)
    monkeypatch.setattr(recorder, "kept_evaluation", lambda *arguments: None)
    tiny.trained(config, tmp_path / "again", *sets)
    kept, again = run_of(tmp_path / "kept"), run_of(tmp_path / "again")
    assert_bit_equal(kept, again)
    assert_tidy(kept)
    rescored = open_for_rescoring(
        open_run(kept), split=None, data=None, device=tiny.CPU, offline=True
    )
    lines = [line for split in ("validation", "test") for line in rescored.evaluate(split)]
    assert {line.verdict for line in lines} == {"equal"}


@pytest.fixture
def stopped(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """A run that was stopped when all its steps were done, before anything is concluded."""

    def stop(self: Trainer, ended: Any) -> Any:
        raise Interrupted(2)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_conclude", stop)
        with pytest.raises(Interrupted):
            tiny.trained(config, tmp_path / "stopped", *CALM)
    return run_of(tmp_path / "stopped")


def test_a_resumed_run_reads_what_was_kept(
    stopped: Path, config: Path, tmp_path: Path, evaluated: list[str]
) -> None:
    tiny.trained(config, tmp_path / "stopped", *CALM, resume=True)
    assert evaluated == ["test"] * 2
    tiny.trained(config, tmp_path / "whole", *CALM)
    assert_bit_equal(stopped, run_of(tmp_path / "whole"))
    assert_tidy(stopped)


@pytest.mark.parametrize("damage", ["altered", "json", "missing", "other_step", "other_run"])
def test_damaged_predictions_are_made_again(
    damage: str, stopped: Path, config: Path, tmp_path: Path, evaluated: list[str]
) -> None:
    folder = stopped / "checkpoints"
    (tensors,) = folder.glob("scored-*.safetensors")
    if damage == "altered":
        tensors.write_bytes(tensors.read_bytes().replace(b"entailment", b"entailmenT", 1))
    elif damage == "json":
        (folder / "scored.json").write_text("half")
    elif damage == "missing":
        tensors.unlink()
    else:
        key = {"other_step": "step", "other_run": "fingerprint"}[damage]
        alter(folder / "scored.json", key)
    tiny.trained(config, tmp_path / "stopped", *CALM, resume=True)
    assert evaluated == ["test", "validation", "test"]
    tiny.trained(config, tmp_path / "whole", *CALM)
    assert_bit_equal(stopped, run_of(tmp_path / "whole"))
