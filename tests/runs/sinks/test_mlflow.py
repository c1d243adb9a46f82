"""`track: mlflow`: runs of a real MLflow server with a database, started here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from ptv2_cli.runs import trainer
from ptv2_cli.training.events import StepDone

pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'ptv2[mlflow]'")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    words += ["--artifacts-destination", str(folder / "files")]
    log = (folder / "log.txt").open("w")
    command = [sys.executable, "-m", "mlflow", *words]
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/health", process, folder / "log.txt")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(address: str, process: Any, log: Path) -> None:
    until = time.monotonic() + 600
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.fixture
def client(server: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(server)


@pytest.fixture
def config(server: str, folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    data = tiny.write_rte(tmp_path / "rte", train=8, validation=4)
    track = {"name": "mlflow", "uri": server, "experiment": tmp_path.name}
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data, track=[track])


def runs(client: Any, tmp_path: Path) -> list[Any]:
    experiment = client.get_experiment_by_name(tmp_path.name)
    return list(client.search_runs([experiment.experiment_id]))


def curve(client: Any, run: Any, name: str) -> list[tuple[int, float]]:
    points = client.get_metric_history(run.info.run_id, name)
    return [(point.step, point.value) for point in points]


def test_a_run_its_config_its_curves_and_its_files(
    config: Path, client: Any, tmp_path: Path
) -> None:
    session, metrics = tiny.trained(config, tmp_path / "runs")
    assert [text for text in session.warnings if "the tracker " in text] == []
    (run,) = runs(client, tmp_path)
    directory = session.resolved_run.directory
    assert run.info.run_name == directory.path.name
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lr"] == "0.05"
    assert run.data.params["method.name"] == "ptuning_v2"
    assert run.data.tags["ptv2.fingerprint"] == metrics["fingerprint"]
    assert run.data.tags["ptv2.status"] == "finished"
    expected = [(line["step"], line["train_loss"]) for line in directory.read_history()]
    assert curve(client, run, "train/loss") == expected
    assert run.data.metrics["chosen/validation/accuracy"] == metrics["selection"]["value"]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"config.yaml", "metrics.json"}


def test_a_resumed_run_continues_the_same_run(
    config: Path, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        tiny.trained(config, tmp_path / "runs", listen=stop)
    (run,) = runs(client, tmp_path)
    assert run.info.status == "KILLED"
    # As if the process had been killed before it noted what the server has.
    (state,) = tmp_path.glob("runs/*/trackers/mlflow.json")
    state.write_text(state.read_text().replace('"step": 4', '"step": 2'))
    session, _ = tiny.trained(config, tmp_path / "runs", resume=True)
    (run,) = runs(client, tmp_path)
    assert run.info.status == "FINISHED"
    history = session.resolved_run.directory.read_history()
    expected = [(line["step"], line["train_loss"]) for line in history]
    assert curve(client, run, "train/loss") == expected


def test_trials_are_children_of_the_sweep(config: Path, client: Any, tmp_path: Path) -> None:
    from ptv2_cli.cli.app import run as ptv2

    words = ["sweep", str(config), "--seed", "11,12", "--output", str(tmp_path / "runs")]
    words += ["--lanes", "2", "--device", "cpu", "--set", "train.epochs=1"]
    assert ptv2(words) == 0
    (sweep,) = [path.parent.name for path in tmp_path.glob("runs/sweeps/*/plan.json")]
    by_name = {run.info.run_name: run for run in runs(client, tmp_path)}
    parent = by_name.pop(sweep)
    assert len(by_name) == 2
    for run in by_name.values():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert len(curve(client, run, "train/loss")) == 1


def test_a_server_that_is_gone_costs_a_warning(config: Path, tmp_path: Path) -> None:
    session, metrics = tiny.trained(
        config, tmp_path / "runs", "track={name: mlflow, uri: 'http://127.0.0.1:9'}"
    )
    assert metrics["status"] == "finished"
    (text,) = [text for text in session.warnings if "the tracker " in text]
    assert "the tracker mlflow cannot follow the run" in text
