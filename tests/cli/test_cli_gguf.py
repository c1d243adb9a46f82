"""A GGUF file from the command line: trained on, evaluated, predicted with; gone; damaged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import gguf_files
import pytest
from commandline import Material, Ptv2, Refused, only_run

from ptv2_cli.backbones.gguf import folder as gguf_folder


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    return gguf_files.save_gguf(folder / "tiny.gguf", gguf_files.save_model(folder / "model"))


@pytest.fixture
def config(
    gguf_file: Path,
    material: Material,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A config that names a copy of the file beside it; the cache is empty."""
    monkeypatch.setenv("PTV2_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(gguf_folder, "_TEMPORARY", {})
    shutil.copy(gguf_file, tmp_path / "tiny.gguf")
    return material.write(tmp_path / "config.yaml", backbone="tiny.gguf")


def test_train_eval_predict(ptv2: Ptv2, config: Path, material: Material, tmp_path: Path) -> None:
    trained = ptv2("train", config)
    assert trained.code == 0, trained.err
    assert trained.err.count("converting tiny.gguf") == 1
    run = only_run(tmp_path / "runs")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["backbone"]["name"] == str(tmp_path / "tiny.gguf")
    assert [*metrics["backbone"]["files"]] == ["model.gguf"]
    evaluated = ptv2("eval", run)
    assert evaluated.code == 0, evaluated.err
    predicted = ptv2("predict", material.rte / "val.jsonl", "--run", run)
    assert predicted.code == 0, predicted.err
    assert len(predicted.out.splitlines()) == 6
    assert "converting" not in evaluated.err + predicted.err


def test_a_moved_file_is_the_same_run(
    ptv2: Ptv2, config: Path, material: Material, tmp_path: Path
) -> None:
    assert ptv2("train", config).code == 0
    run = only_run(tmp_path / "runs")
    (tmp_path / "tiny.gguf").rename(tmp_path / "moved.gguf")
    shutil.rmtree(os.environ["PTV2_CACHE"])
    other = material.write(tmp_path / "other.yaml", backbone="moved.gguf")
    again = ptv2("train", other)
    assert again.code == 0
    assert "converting moved.gguf" in again.err
    assert only_run(tmp_path / "runs") == run


def test_a_run_whose_file_has_changed_or_is_gone(
    ptv2: Ptv2, refused: Refused, config: Path, tmp_path: Path
) -> None:
    assert ptv2("train", config).code == 0
    run = only_run(tmp_path / "runs")
    file = tmp_path / "tiny.gguf"
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    refused("eval", run, says=["was trained on other files", "model.gguf"])
    file.unlink()
    refused("eval", run, says=["its backbone is gone: there is no file", "tiny.gguf"])


@pytest.mark.parametrize("command", ["train", "check"])
def test_a_text_file(command: str, refused: Refused, config: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_text("not a model\n")
    refused(command, config, says=["is not a GGUF file", "begins with 'not a model"])


def test_a_wrong_sha256(refused: Refused, material: Material, config: Path, tmp_path: Path) -> None:
    section = {"name": "tiny.gguf", "sha256": "0" * 64}
    material.write(config, backbone=section)
    refused("train", config, says=["backbone.sha256", "tiny.gguf has sha256"])


def test_export_names_the_converted_weights(
    ptv2: Ptv2, refused: Refused, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ptv2("train", config).code == 0
    run = only_run(tmp_path / "runs")
    exported = ptv2("export", run, "--to", "peft", "adapter")
    assert exported.code == 0, exported.err
    assert "the backbone is a GGUF file" in exported.err + exported.out
    base = json.loads(Path("adapter/adapter_config.json").read_text())["base_model_name_or_path"]
    assert base.startswith(os.environ["PTV2_CACHE"])
    assert (Path(base) / "model.safetensors").exists()
    monkeypatch.setenv("PTV2_CACHE", "off")
    refused("export", run, "--to", "peft", "other", says=["end with this command", "PTV2_CACHE"])
