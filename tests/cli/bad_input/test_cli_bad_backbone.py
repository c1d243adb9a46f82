"""Backbones that must not be used: a message, exit code 2, nothing run and nothing written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from commandline import Material, Refused


@pytest.fixture
def folder(material: Material, tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may damage."""
    return shutil.copytree(material.bert, tmp_path / "model")


class Malicious:
    """What pickle would call when it is loaded."""

    def __reduce__(self):
        return os.system, ("touch ran.txt",)


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_weights_that_are_a_malicious_pickle(options, refused, material, folder, tmp_path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Malicious()}, folder / "pytorch_model.bin")
    config = material.write(tmp_path / "config.yaml", backbone=str(folder))
    refused(
        "train",
        config,
        *options,
        says=["its weights (pytorch_model.bin)", "nothing of it was run", "safetensors"],
    )


@pytest.mark.parametrize("command", ["train", "check"])
def test_a_model_that_asks_to_run_its_own_code(
    command: str, refused: Refused, material: Material, folder: Path, tmp_path: Path
) -> None:
    config_file = folder / "config.json"
    content = {**json.loads(config_file.read_text()), "auto_map": {"AutoModel": "own.Own"}}
    config_file.write_text(json.dumps(content))
    (folder / "own.py").write_text("open('ran.txt', 'w').close()\n")
    (folder / "model.safetensors").unlink()  # it is refused before weights are looked for
    config = material.write(tmp_path / "config.yaml", backbone=str(folder))
    refused(
        command,
        config,
        says=["asks to run its own Python code", "own.Own", "trust_remote_code: true"],
    )


def test_int4_without_a_gpu(refused: Refused, material: Material, tmp_path: Path) -> None:
    section = {"name": str(material.bert), "dtype": "bf16", "quantize": "int4"}
    config = material.write(tmp_path / "config.yaml", backbone=section)
    refused(
        "train",
        config,
        *("--device", "cpu"),
        says=["backbone.quantize: int4 needs a CUDA device", "--set backbone.quantize=int8"],
    )


def test_a_trusted_hub_model_wants_a_revision(
    refused: Refused, material: Material, tmp_path: Path
) -> None:
    section = {"name": "who/model", "trust_remote_code": True}
    config = material.write(tmp_path / "config.yaml", backbone=section)
    refused("check", config, says=["backbone.trust_remote_code", "revision: COMMIT"])
