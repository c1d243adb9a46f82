"""`ptv2 export --to folded`: a run without its network, with the same logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from swapping import batch_of, logits_of, make_run, reopened
from tiny import CPU

from ptv2_cli import load
from ptv2_cli.errors import CheckpointError, InputError, RunError
from ptv2_cli.interop.folded import export_folded
from ptv2_cli.report.runs import find_runs
from ptv2_cli.runs.directory import RunDirectory, find_by_fingerprint
from ptv2_cli.runs.rescore import open_for_rescoring

FolderOf = Callable[[str], Path]
MLP = {"reparam": "mlp", "reparam_hidden": 16, "init": "normal"}


@pytest.fixture
def run(tmp_path: Path, folder_of: FolderOf) -> RunDirectory:
    return make_run(tmp_path, folder_of("bert"), method=MLP)


def test_logits_scores_and_predictions_are_equal(tmp_path: Path, run: RunDirectory) -> None:
    export_folded(run, tmp_path / "folded")
    folded = RunDirectory(tmp_path / "folded")
    session, other = reopened(run), reopened(folded)
    batch = batch_of(session, tmp_path)
    assert torch.equal(logits_of(session, batch), logits_of(other, batch))
    reloaded = open_for_rescoring(folded, split=None, data=None, device=CPU, offline=True)
    assert {line.verdict for line in reloaded.evaluate("validation")} == {"equal"}
    rows = [{"premise": "the cat sat", "hypothesis": "ann ran"}]
    assert load(folded.path, offline=True).predict(rows) == load(run.path).predict(rows)


def test_the_network_is_gone(tmp_path: Path, run: RunDirectory) -> None:
    export_folded(run, tmp_path / "folded")
    (file,) = (tmp_path / "folded/checkpoints").glob("best-*.safetensors")
    tensors = load_file(file)
    assert {name: tuple(value.shape) for name, value in tensors.items() if "source" in name} == {
        "learner.method.source.prompt": (3, 2 * 3 * 32)
    }
    session = reopened(RunDirectory(tmp_path / "folded"))
    metrics = json.loads((tmp_path / "folded/metrics.json").read_text())
    counts = session.learner.counts()
    assert metrics["parameters"] == pytest.approx(counts)
    assert metrics["config"] == session.resolved.config.model_dump(mode="json")
    assert metrics["config"]["method"]["reparam"] == "none"


def test_gates_stay(tmp_path: Path, folder_of: FolderOf) -> None:
    gates = {"softmax": "separate", "gates": "apt"}
    run = make_run(tmp_path, folder_of("bert"), method={**MLP, **gates})
    export_folded(run, tmp_path / "folded")
    session, other = reopened(run), reopened(RunDirectory(tmp_path / "folded"))
    batch = batch_of(session, tmp_path)
    assert torch.equal(logits_of(session, batch), logits_of(other, batch))
    metrics = json.loads((tmp_path / "folded/metrics.json").read_text())
    assert metrics["parameters"] == pytest.approx(other.learner.counts())
    assert metrics["parameters"]["reparam"] == 3 * (32 * 3 + 1)


def test_it_is_no_other_result_and_no_trained_run(tmp_path: Path, run: RunDirectory) -> None:
    """A report counts it once; a search for trained runs does not find it."""
    export_folded(run, run.path.parent / "folded")
    metrics = run.read_metrics()
    found = find_runs([run.path.parent])
    assert [one.directory.path for one in (*found.runs, *[])] in (
        [run.path],
        [run.path.parent / "folded"],
    )
    assert len(found.copies) == 1
    assert find_by_fingerprint(run.path.parent, metrics["fingerprint"]) == run
    origin = json.loads((run.path.parent / "folded/metrics.json").read_text())["origin"]
    assert origin["run"] == str(run.path.resolve())
    assert origin["fingerprint"] == metrics["fingerprint"]
    assert run.path.name in (run.path.parent / "folded/config.yaml").read_text()
    with pytest.raises(InputError, match="like the name of a trained run"):
        export_folded(run, tmp_path / f"other-{metrics['fingerprint']}")


def test_nothing_to_fold(tmp_path: Path, folder_of: FolderOf) -> None:
    run = make_run(tmp_path, folder_of("bert"))
    with pytest.raises(RunError, match="no network to fold"):
        export_folded(run, tmp_path / "folded")
    assert not (tmp_path / "folded").exists()


def test_a_damaged_checkpoint(tmp_path: Path, run: RunDirectory) -> None:
    (file,) = run.checkpoints.glob("best-*.safetensors")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="truncated"):
        export_folded(run, tmp_path / "folded")
    assert not (tmp_path / "folded").exists()


def test_a_residual_network_beside_a_first_position_that_stays(
    tmp_path: Path, folder_of: FolderOf
) -> None:
    method = {"reparam": "residual", "reparam_hidden": 16, "freeze_first": True}
    run = make_run(tmp_path, folder_of("gpt2"), method=method)
    export_folded(run, tmp_path / "folded")
    folded = RunDirectory(tmp_path / "folded")
    session, other = reopened(run), reopened(folded)
    batch = batch_of(session, tmp_path)
    network = session.learner.method.source.network
    assert network[3].weight.abs().max() > 1e-3  # it does something
    assert torch.equal(logits_of(session, batch), logits_of(other, batch))
    assert other.learner.method.counts() == {"prompt": 2 * 2 * 3 * 32, "reparam": 0}
    assert "reparam: residual" in (folded.path / "config.yaml").read_text()
