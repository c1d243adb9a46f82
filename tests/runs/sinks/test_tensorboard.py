"""`track: tensorboard`: what TensorBoard reads in a run's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from ptv2_cli.runs import trainer
from ptv2_cli.training.events import StepDone

pytest.importorskip("tensorboard")


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def curve(events: Any, name: str) -> list[tuple[int, float]]:
    return [(point.step, round(point.value, 5)) for point in events.Scalars(name)]


def history(run: Any, key: Callable[[Any], float]) -> list[tuple[int, float]]:
    return [(line["step"], round(key(line), 5)) for line in run.read_history()]


@pytest.fixture
def config(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    data = tiny.write_rte(tmp_path / "rte", train=8, validation=4)
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data, track="tensorboard")


def test_scores_hyperparameters_and_the_confusion_matrix(config: Path, tmp_path: Path) -> None:
    session, metrics = tiny.trained(config, tmp_path / "runs")
    run = session.resolved_run.directory
    events = read(run.path / "tensorboard")
    assert curve(events, "train/loss") == history(run, lambda line: line["train_loss"])
    scores = history(run, lambda line: line["metrics"]["accuracy"])
    assert curve(events, "validation/accuracy") == scores
    chosen = metrics["selection"]
    assert curve(events, "chosen/validation/accuracy") == [
        (chosen["step"], round(chosen["value"], 5))
    ]
    (picture,) = events.Images("confusion/validation")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert picture.width > 200
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["train.lr"].number_value == 0.05
    assert values["method.name"].string_value == "ptuning_v2"
    assert not metrics["warnings"] or "the tracker " not in str(metrics["warnings"])


def test_a_resumed_run_continues_its_curve_without_double_points(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        tiny.trained(config, tmp_path / "runs", listen=stop)
    session, _ = tiny.trained(config, tmp_path / "runs", resume=True)
    run = session.resolved_run.directory
    assert len(list((run.path / "tensorboard").iterdir())) == 2
    events = read(run.path / "tensorboard")
    assert curve(events, "train/loss") == history(run, lambda line: line["train_loss"])
    assert [step for step, _ in curve(events, "train/loss")] == [2, 4, 6]


def test_a_run_that_starts_anew_has_a_new_curve(config: Path, tmp_path: Path) -> None:
    tiny.trained(config, tmp_path / "runs")
    session, _ = tiny.trained(config, tmp_path / "runs")
    run = session.resolved_run.directory
    events = read(run.path / "tensorboard")
    assert curve(events, "train/loss") == history(run, lambda line: line["train_loss"])
