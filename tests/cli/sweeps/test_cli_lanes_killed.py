"""`ptv2 sweep --lanes` that is killed or stopped, and the same command again."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from commandline import Material, Ptv2
from killing import signalled, statuses

from ptv2_cli.cli.app import run

GRID = ("--prompt-len", "2,4,5", "--seed", "11,12")


def write_config(material: Material, folder: Path) -> Path:
    train = {"steps": 6, "batch_size": 4, "lr": 0.01, "eval_every": 2}
    backbone = {"name": str(material.bert), "dropout": "off"}
    return material.write(folder / "config.yaml", train=train, backbone=backbone)


@pytest.fixture(scope="module")
def whole(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of the sweep that nobody stops."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(material, folder)
    assert run(["sweep", str(config), *GRID, "--output", str(folder / "runs")]) == 0
    return folder / "runs"


@pytest.fixture(autouse=True)
def _config(material: Material) -> None:
    write_config(material, Path())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def same_as(whole: Path) -> None:
    """Every run ends as the one that ran through."""
    runs = sorted(whole.glob("config-*"))
    assert len(runs) == 6
    for done in runs:
        twin = Path("runs") / done.name
        losses = [line["train_loss"] for line in lines(done / "history.jsonl")]
        found = [line["train_loss"] for line in lines(twin / "history.jsonl")]
        assert found == pytest.approx(losses, rel=1e-4)
        for one, other in zip(
            lines(done / "predictions/validation.jsonl"),
            lines(twin / "predictions/validation.jsonl"),
            strict=True,
        ):
            found, wanted = other["prediction"], one["prediction"]
            assert found["label"] == wanted["label"]
            assert wanted["probabilities"] == pytest.approx(found["probabilities"], abs=1e-3)


@pytest.mark.parametrize(
    ("before", "after", "step", "ended", "going"),
    [
        ("2", "6", 18, 2, 2),  # two have ended
        ("3", "1", 12, 0, 3),  # the fourth step of the first three
    ],
)
def test_killed_and_continued(
    before: str, after: str, step: int, ended: int, going: int, whole: Path, ptv2: Ptv2
) -> None:
    killed = signalled(step, signal.SIGKILL, *GRID, "--lanes", before)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert statuses() == ["finished"] * ended + ["running"] * going + ["waiting"] * (
        6 - ended - going
    )
    at = step // going - 6 * ended // going
    earlier = {
        path.parent.name: path.read_text() for path in Path("runs").glob("config-*/history.jsonl")
    }
    again = ptv2("sweep", *GRID, "--lanes", after)
    assert again.code == 0, again.err
    assert f"{going} to continue" in again.err
    told = re.findall(r"resumed at step (\d+) of 6", again.err)
    assert told == [str(at)] * going
    for name, text in earlier.items():  # evaluations made before it are kept, times included
        assert (Path("runs") / name / "history.jsonl").read_text().startswith(text)
    assert all(earlier.values())
    same_as(whole)


def test_stopped_and_continued(whole: Path, ptv2: Ptv2) -> None:
    stopped = signalled(10, signal.SIGTERM, *GRID, "--lanes", "3")
    assert stopped.returncode == 143, stopped.stderr
    told = re.sub(r"\s+", " ", stopped.stderr)
    assert "interrupted; 3 runs are saved" in told
    assert "interrupted; 0 of 6 trials are done and kept" in told
    assert told.count("-> the same command continues it") == 1
    assert "Traceback" not in told
    assert statuses() == ["interrupted"] * 3 + ["waiting"] * 3
    saved = [json.loads(path.read_text()) for path in Path("runs").glob("*/checkpoints/last.json")]
    assert [one["state"]["progress"]["step"] for one in saved] == [4] * 3
    again = ptv2("sweep", *GRID, "--lanes", "2")
    assert again.code == 0, again.err
    assert again.err.count("resumed at step 4 of 6") == 3
    same_as(whole)
