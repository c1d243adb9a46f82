"""`ptv2 export` and `ptv2 import` as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from commandline import Material, Ptv2, Refused
from left_behind import read_checkpoint


def test_to_peft_and_back(ptv2: Ptv2, finished: Path, material: Material) -> None:
    result = ptv2("export", finished, "--to", "peft", "adapter")
    assert result.code == 0, result.err
    assert result.out == "adapter: README.md, adapter_config.json, adapter_model.safetensors\n"
    assert "AutoModelForSequenceClassification" in result.err
    config = material.write(Path("again.yaml"), report=["validation", "test"])
    result = ptv2("import", "adapter", "--from", "peft", "--config", config, "--output", "other")
    assert result.code == 0, result.err
    (made,) = Path("other").iterdir()
    assert f"run: {made}" in result.out
    result = ptv2("eval", made)
    assert result.code == 0, result.err
    assert "differs" not in result.out
    scores = [json.loads((run / "metrics.json").read_text())["metrics"] for run in (finished, made)]
    assert scores[0] == scores[1]


def test_folded(ptv2: Ptv2, material: Material) -> None:
    method = {"name": "ptuning_v2", "reparam": "mlp", "reparam_hidden": 8}
    assert ptv2("train", material.write(Path("config.yaml"), method=method)).code == 0
    (run,) = Path("runs").iterdir()
    result = ptv2("export", run, "folded", "--to", "folded")
    assert result.code == 0, result.err
    assert "ptv2 eval folded" in result.err
    result = ptv2("eval", "folded")
    assert result.code == 0, result.err
    assert result.out.count("equal") == 1
    rows = Path("rows.jsonl")
    rows.write_text('{"premise": "the cat sat", "hypothesis": "ann ran"}\n')
    outputs = [ptv2("predict", rows, "--run", which).out for which in (run, "folded")]
    assert outputs[0] == outputs[1] != ""


def test_the_reference(ptv2: Ptv2, finished: Path, material: Material) -> None:
    """A checkpoint in the repository's names that was made from a run."""
    tensors = read_checkpoint(finished / "checkpoints", "best").tensors
    from safetensors.torch import load_file

    theirs = {f"bert.{k}": v for k, v in load_file(material.bert / "model.safetensors").items()}
    theirs["prefix_encoder.embedding.weight"] = tensors["learner.method.source.prompt"]
    for part in ("weight", "bias"):
        theirs[f"classifier.{part}"] = tensors[f"learner.head.linear.{part}"]
    Path("theirs").mkdir()
    torch.save(theirs, "theirs/pytorch_model.bin")
    config = material.write(Path("again.yaml"), report=["validation", "test"], prompt_len=7)
    words = ["import", "theirs", "--from", "p-tuning-v2", "--config", config]
    result = ptv2(*words, "--unset", "prompt_len")
    assert result.code == 0, result.err
    assert "tensors are those of this one" in result.err
    (made,) = (run for run in Path("runs").iterdir() if run.name != finished.name)
    scores = [json.loads((run / "metrics.json").read_text())["metrics"] for run in (finished, made)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("to", ["peft", "folded"])
def test_export_refuses(refused: Refused, finished: Path, to: str) -> None:
    refused("export", "nowhere", "out", "--to", to, says=["no such run directory"])
    refused("export", finished, finished.parent, "--to", to, says=["is not empty", "->"])
    refused("export", finished, "config.yaml", "--to", to, says=["is a file, not a folder"])
    (finished / "metrics.json").unlink()
    refused("export", finished, "out", "--to", to, says=["has not finished", "continues it"])


def test_export_refuses_a_backbone_that_is_gone(
    ptv2: Ptv2, refused: Refused, material: Material, tmp_path: Path
) -> None:
    shutil.copytree(material.bert, "model")
    config = material.write(Path("config.yaml"), backbone=str(tmp_path / "model"))
    assert ptv2("train", config).code == 0
    (run,) = Path("runs").iterdir()
    shutil.rmtree("model")
    refused("export", run, "out", "--to", "peft", says=["its backbone is gone"])


def test_import_refuses(refused: Refused, material: Material) -> None:
    config = material.write(Path("config.yaml"))
    refused("import", "no", "--from", "peft", says=["no: there is no such folder", "->"])
    refused("import", ".", "--from", "p-tuning-v2", says=["has no pytorch_model.bin", "->"])
    refused("import", ".", "--from", "peft", "--config", "x.yaml", says=["no such config file"])
    tensor = torch.zeros(5, 3 * 2 * 32)
    torch.save({"prefix_encoder.embedding.weight": tensor}, "pytorch_model.bin")
    says = ["prompt_len is 3, but the checkpoint has 5 positions", "--set prompt_len=5"]
    refused("import", ".", "--from", "p-tuning-v2", "--config", config, says=says)
