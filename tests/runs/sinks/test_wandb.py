"""`track: wandb` in its offline mode: what `wandb sync` would send."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from ptv2_cli.runs import trainer
from ptv2_cli.training.events import StepDone

pytest.importorskip("wandb", reason="wandb is not installed: pip install 'ptv2[wandb]'")

BLOCK = 32768


@pytest.fixture
def config(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # where a login may be
    data = tiny.write_rte(tmp_path / "rte", train=8, validation=4)
    track = [{"name": "wandb", "mode": "offline", "project": "tests"}]
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data, track=track)


def chunks(data: bytes) -> Iterator[bytes]:
    """The records of a `.wandb` file: LevelDB's log format behind a header of seven bytes."""
    position, parts = 7, b""
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # the whole record, or its last part
            yield parts
            parts = b""


def records(folder: Path) -> list[Any]:
    """The records of all starts of a run, in their order."""
    from wandb.proto import wandb_internal_pb2

    return [
        wandb_internal_pb2.Record.FromString(chunk)
        for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))
        for chunk in chunks(file.read_bytes())
    ]


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    points = []
    for record in records(folder):
        values = {
            (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
            for item in record.history.item
        }
        if name in values:
            points.append((record.history.step.num or values.get("_step"), values[name]))
    return points


def test_a_run_its_config_and_its_curves(config: Path, tmp_path: Path) -> None:
    session, _ = tiny.trained(config, tmp_path / "runs")
    assert not [text for text in session.warnings if "the tracker " in text]
    directory = session.resolved_run.directory
    expected = [(line["step"], line["train_loss"]) for line in directory.read_history()]
    assert curve(directory.path, "train/loss") == expected
    (run,) = [record.run for record in records(directory.path) if record.HasField("run")]
    assert run.project == "tests"
    assert run.display_name == directory.path.name
    values = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert values["train"]["lr"] == 0.05


def test_a_resumed_run_continues_the_same_run(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        tiny.trained(config, tmp_path / "runs", listen=stop)
    session, _ = tiny.trained(config, tmp_path / "runs", resume=True)
    directory = session.resolved_run.directory
    runs = {record.run.run_id for record in records(directory.path) if record.HasField("run")}
    assert len(runs) == 1
    assert len(list(directory.path.glob("wandb/offline-run-*"))) == 2
    expected = [(line["step"], line["train_loss"]) for line in directory.read_history()]
    assert curve(directory.path, "train/loss") == expected


def test_trials_side_by_side_are_runs_of_one_group(config: Path, tmp_path: Path) -> None:
    from ptv2_cli.cli.app import run as ptv2

    words = ["sweep", str(config), "--seed", "11,12", "--output", str(tmp_path / "runs")]
    words += ["--lanes", "2", "--device", "cpu", "--set", "train.epochs=1"]
    assert ptv2(words) == 0
    (sweep,) = [path.parent.name for path in tmp_path.glob("runs/sweeps/*/plan.json")]
    folders = [path.parent for path in tmp_path.glob("runs/*/metrics.json")]
    assert len(folders) == 2
    for folder in folders:
        (run,) = [record.run for record in records(folder) if record.HasField("run")]
        assert run.run_group == sweep
        assert len(curve(folder, "train/loss")) == 1


def test_without_an_api_key_it_warns_and_the_run_goes_on(config: Path, tmp_path: Path) -> None:
    from ptv2_cli.config.load import load_config, parse_set
    from ptv2_cli.runs.resolved_run import prepare
    from ptv2_cli.runs.session import open_session

    loaded = load_config(config, [parse_set("track=wandb"), parse_set("train.epochs=1")])
    session = open_session(prepare(loaded, tmp_path / "runs", offline=False), tiny.CPU)
    assert trainer.train(session)["status"] == "finished"
    (text,) = [text for text in session.warnings if "the tracker " in text]
    assert "no API key: wandb login keeps one, or set WANDB_API_KEY" in text
