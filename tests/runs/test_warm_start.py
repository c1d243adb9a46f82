"""A prompt that begins where another run's prompt ended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny
import torch

from ptv2_cli.errors import InputError
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.rescore import open_for_rescoring


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("rte"))


def write(folder: Path, backbone: Path, data: Path, **changes) -> Path:
    train = {"lr": 0.05, "epochs": 1, "batch_size": 8, "seed": 11}
    return tiny.write_config(folder, backbone, data, **{"train": train, **changes})


@pytest.fixture(scope="module")
def first(folder_of, data, tmp_path_factory) -> Path:
    """The directory of a finished run of length 3."""
    folder = tmp_path_factory.mktemp("first")
    config = write(folder / "first.yaml", folder_of("bert"), data)
    session, _ = tiny.trained(config, folder / "runs")
    return session.resolved_run.directory.path


def inheriting(tmp_path, backbone, data, run: Path, **changes):
    method = {"name": "ptuning_v2", "init": {"run": str(run)}, **changes.pop("method", {})}
    config = write(tmp_path / "next.yaml", backbone, data, method=method, **changes)
    return tiny.opened(config, tmp_path / "runs")


def values(session) -> torch.Tensor:
    return session.learner.method.source.prompt.detach()


def trained_values(run: Path) -> torch.Tensor:
    from safetensors.torch import load_file

    (file,) = (run / "checkpoints").glob("best-*.safetensors")
    return load_file(file)["learner.method.source.prompt"]


def test_the_prompt_is_taken_over(first, folder_of, data, tmp_path) -> None:
    session = inheriting(tmp_path, folder_of("bert"), data, first)
    assert torch.equal(values(session), trained_values(first))
    assert session.learner.method.notes == ()


@pytest.mark.parametrize(
    ("length", "done"), [(2, "the first of them are used"), (7, "are repeated")]
)
def test_another_length_is_cut_or_repeated_and_said(
    length, done, first, folder_of, data, tmp_path
) -> None:
    session = inheriting(tmp_path, folder_of("bert"), data, first, prompt_len=length)
    whole = trained_values(first)
    assert torch.equal(values(session), whole.repeat(3, 1)[:length])
    assert done in session.learner.method.notes[0]
    assert "has 3 positions" in session.learner.method.notes[0]


def test_a_network_is_folded_into_its_values(folder_of, data, tmp_path) -> None:
    method = {"name": "ptuning_v2", "reparam": "mlp", "reparam_hidden": 16}
    config = write(tmp_path / "mlp.yaml", folder_of("bert"), data, method=method)
    source, _ = tiny.trained(config, tmp_path / "mlp")
    source.load_best()
    session = inheriting(tmp_path, folder_of("bert"), data, source.resolved_run.directory.path)
    assert torch.allclose(values(session), source.learner.method.eval().source().detach())


def test_fewer_layers_take_theirs(first, folder_of, data, tmp_path) -> None:
    method = {"layers": "2-3"}
    session = inheriting(tmp_path, folder_of("bert"), data, first, method=method)
    assert torch.equal(values(session), trained_values(first)[:, 64:])


def test_the_fingerprint_knows_the_content_not_the_place(first, folder_of, data, tmp_path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(first, moved)
    marks = [
        inheriting(tmp_path, folder_of("bert"), data, run).resolved_run.fingerprint
        for run in (first, moved)
    ]
    assert marks[0] == marks[1]
    other, _ = tiny.trained(
        write(tmp_path / "other.yaml", folder_of("bert"), data), tmp_path / "other", "train.seed=12"
    )
    third = inheriting(tmp_path, folder_of("bert"), data, other.resolved_run.directory.path)
    assert third.resolved_run.fingerprint != marks[0]
    fresh = tiny.prepared(write(tmp_path / "fresh.yaml", folder_of("bert"), data), tmp_path)
    assert fresh.fingerprint != marks[0]


def test_a_finished_run_needs_its_ancestor_no_more(first, folder_of, data, tmp_path) -> None:
    ancestor = tmp_path / "ancestor"
    shutil.copytree(first, ancestor)
    method = {"name": "ptuning_v2", "init": {"run": str(ancestor)}}
    config = write(tmp_path / "next.yaml", folder_of("bert"), data, method=method)
    session, _ = tiny.trained(config, tmp_path / "runs")
    shutil.rmtree(ancestor)
    again = open_for_rescoring(
        RunDirectory(session.resolved_run.directory.path),
        split=None,
        data=None,
        device=tiny.CPU,
        offline=True,
    )
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}


def test_what_cannot_be_inherited(first, folder_of, data, tmp_path) -> None:
    def refusal(run: Path, family: str = "bert", **changes) -> str:
        with pytest.raises(InputError) as caught:
            inheriting(tmp_path, folder_of(family), data, run, **changes)
        return str(caught.value)

    assert "no such folder" in refusal(tmp_path / "nowhere")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(first, unfinished)
    (unfinished / "metrics.json").unlink()
    assert "is no finished run" in refusal(unfinished)
    assert "whose files are not this backbone's" in refusal(first, "albert")
    last = write(
        tmp_path / "last.yaml",
        folder_of("bert"),
        data,
        method={"name": "ptuning_v2", "layers": "last:1"},
    )
    session, _ = tiny.trained(last, tmp_path / "last")
    assert "nothing that fits layer 1" in refusal(session.resolved_run.directory.path)
    other = write(tmp_path / "pt.yaml", folder_of("bert"), data, method="prompt_tuning")
    session, _ = tiny.trained(other, tmp_path / "pt")
    assert "it has no keys and values" in refusal(session.resolved_run.directory.path)
    tuned = write(tmp_path / "ft.yaml", folder_of("bert"), data, method="finetune", prompt_len=None)
    session, _ = tiny.trained(tuned, tmp_path / "ft")
    run = session.resolved_run.directory.path
    assert "belongs to the backbone that it changed" in refusal(run)


def test_the_prompt_of_a_combined_run_is_taken_over(folder_of, data, tmp_path) -> None:
    method = {"name": "combined", "of": ["houlsby_adapter", "ptuning_v2"]}
    config = write(tmp_path / "combined.yaml", folder_of("bert"), data, method=method)
    session, _ = tiny.trained(config, tmp_path / "combined")
    prefix = session.learner.method.methods[1].source.prompt
    found = inheriting(tmp_path, folder_of("bert"), data, session.resolved_run.directory.path)
    assert torch.equal(values(found), prefix)
