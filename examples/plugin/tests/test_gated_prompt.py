"""`method: gated_prompt`: found, trained, evaluated again; closed gates are no prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ptv2_cli.cli.app import run as ptv2
from ptv2_cli.registry import METHODS


def trained(path: Path, output: Path, *more: str) -> tuple[Path, dict[str, Any]]:
    """The only new run of a folder, and its metrics."""
    assert ptv2(["train", str(path), "--output", str(output), "--device", "cpu", *more]) == 0
    (metrics,) = output.glob("*/metrics.json")
    return metrics.parent, json.loads(metrics.read_text())


def test_the_installed_package_is_found() -> None:
    METHODS.find_installed()
    assert "gated_prompt" in METHODS.names()
    assert str(METHODS.source("gated_prompt")) == "ptv2-example 0.1.0"


def test_it_learns_and_the_run_can_be_evaluated_again(config: Any, tmp_path: Path) -> None:
    folder, metrics = trained(config(method="gated_prompt"), tmp_path / "runs")
    scores = metrics["metrics"]["validation"]
    assert scores["f1_micro"] > metrics["majority_baseline"]["f1_micro"] + 0.05
    assert {"name": "ptv2-example", "version": "0.1.0"} in metrics["plugins"]
    assert metrics["parameters"]["prompt"] == 2 * 2 * 32 * 4 + 2 * 4
    assert ptv2(["eval", str(folder), "--device", "cpu"]) == 0


def test_closed_gates_leave_the_backbone_as_it_is(backbone: Path) -> None:
    from types import SimpleNamespace

    from ptv2_example.gated_module import GatedModule
    from transformers import BertModel

    from ptv2_cli.backbones.files.locate import locate
    from ptv2_cli.backbones.load import load_backbone
    from ptv2_cli.backbones.sites import PlainBatch
    from ptv2_cli.config.schema import BackboneSection
    from ptv2_cli.rng import generator

    section = BackboneSection(name=str(backbone))
    model = load_backbone(
        locate(section, offline=True), section, generator(0, "init/backbone"), torch.device("cpu")
    ).eval()
    context = SimpleNamespace(sites=model.sites, prompt_len=3, init=generator(0, "init/method"))
    method = GatedModule(0.5, context)  # type: ignore[arg-type]
    batch = PlainBatch(
        input_ids=torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]),
        attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    )
    stock = BertModel.from_pretrained(backbone).eval()
    with torch.no_grad():
        expected = stock(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        seen = batch.attention_mask.bool()
        torch.testing.assert_close(model(batch, method())[seen], expected[seen])
        method.gate.fill_(1.0)
        assert (model(batch, method()) - expected)[seen].abs().max() > 0.01


def test_a_backbone_that_cannot_is_refused_before_anything_is_loaded(
    config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "deberta"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "deberta-v2", "hidden_size": 32, "num_hidden_layers": 2,
                    "num_attention_heads": 4, "max_position_embeddings": 40})
    )  # fmt: skip
    path = config(method="gated_prompt", backbone=str(folder))
    assert ptv2(["train", str(path), "--output", str(tmp_path / "runs")]) == 2
    assert "deberta-v2 has an attention of its own" in capsys.readouterr().err


def test_lanes_of_it_compute_what_each_computes_alone(config: Any, tmp_path: Path) -> None:
    path = config(method="gated_prompt")
    grid = ["--prompt-len", "3,5", "--lanes", "2", "--output", str(tmp_path / "lanes")]
    assert ptv2(["sweep", str(path), *grid, "--device", "cpu"]) == 0
    lanes = {file.parent.name: json.loads(file.read_text())
             for file in (tmp_path / "lanes").glob("config-*/metrics.json")}  # fmt: skip
    assert len(lanes) == 2
    for name, metrics in lanes.items():
        length = str(metrics["config"]["prompt_len"])
        output = tmp_path / f"alone{length}"
        folder, alone = trained(path, output, "--prompt-len", length)
        assert folder.name == name
        assert alone["metrics"] == metrics["metrics"]
