"""`track: trackio`: what its database on this machine holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from ptv2_cli.runs import trainer
from ptv2_cli.training.events import StepDone

pytest.importorskip("trackio", reason="trackio is not installed: pip install 'ptv2[trackio]'")


@pytest.fixture
def config(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    from trackio import sqlite_storage, utils

    for module in (sqlite_storage, utils):  # TRACKIO_DIR is read when they are imported
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    data = tiny.write_rte(tmp_path / "rte", train=8, validation=4)
    track = [{"name": "trackio", "project": "tests"}]
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data, track=track)


def curve(run: str, name: str) -> list[tuple[int, float]]:
    from trackio.sqlite_storage import SQLiteStorage

    lines = SQLiteStorage.get_logs("tests", run)
    return [(line["step"], line[name]) for line in lines if name in line]


def test_a_run_its_config_and_its_curves(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    session, metrics = tiny.trained(config, tmp_path / "runs")
    assert not [text for text in session.warnings if "the tracker " in text]
    assert capsys.readouterr().out == ""
    directory = session.resolved_run.directory
    name = directory.path.name
    expected = [(line["step"], line["train_loss"]) for line in directory.read_history()]
    assert curve(name, "train/loss") == expected
    chosen = metrics["selection"]
    assert curve(name, "chosen/validation/accuracy") == [(chosen["step"], chosen["value"])]
    assert SQLiteStorage.get_run_config("tests", name)["train"]["lr"] == 0.05


@pytest.mark.parametrize("noted", [-1, 2, 4])
def test_a_resumed_run_continues_the_same_run(
    noted: int, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        tiny.trained(config, tmp_path / "runs", listen=stop)
    # As if the process had been killed before or after it noted what the database has.
    (state,) = tmp_path.glob("runs/*/trackers/trackio.json")
    state.write_text(state.read_text().replace('"step": 2', f'"step": {noted}'))
    session, _ = tiny.trained(config, tmp_path / "runs", resume=True)
    directory = session.resolved_run.directory
    assert len(SQLiteStorage.get_runs("tests")) == 1
    expected = [(line["step"], line["train_loss"]) for line in directory.read_history()]
    assert curve(directory.path.name, "train/loss") == expected


def test_trials_side_by_side_are_runs_of_one_group(config: Path, tmp_path: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    from ptv2_cli.cli.app import run as ptv2

    words = ["sweep", str(config), "--seed", "11,12", "--output", str(tmp_path / "runs")]
    words += ["--lanes", "2", "--device", "cpu", "--set", "train.epochs=1"]
    assert ptv2(words) == 0
    (sweep,) = [path.parent.name for path in tmp_path.glob("runs/sweeps/*/plan.json")]
    names = [path.parent.name for path in tmp_path.glob("runs/*/metrics.json")]
    assert len(names) == 2
    for name in names:
        assert len(curve(name, "train/loss")) == 1
        assert SQLiteStorage.get_run_config("tests", name)["_Group"] == sweep
