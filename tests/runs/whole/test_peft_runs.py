"""Runs of PEFT's methods from end to end: resumed, scored again, written, quantized, compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lm
import pytest
import tiny
import torch
import transformers
from left_behind import assert_bit_equal, read_checkpoint

from ptv2_cli.errors import ConfigError, Interrupted
from ptv2_cli.runs import trainer
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction.multi_run_predict import MixedRuns
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.rescore import open_for_rescoring
from ptv2_cli.sweeps.compatibility import alone
from ptv2_cli.training.events import StepDone

FolderOf = Callable[[str], Path]
METHODS = ("lora", "dora", "rslora", "ia3", "ln_tuning")
LORA = {"name": "lora", "lora_dropout": 0.1, "r": 4}
TRAIN = {"lr": 0.02, "epochs": 2, "batch_size": 4, "eval_batch_size": 8, "seed": 11}


def rte(tmp_path: Path, folder: Path, **changes: Any) -> Path:
    data = tiny.write_rte(tmp_path / "rte", train=16, validation=8)
    content: dict[str, Any] = {"method": LORA, "prompt_len": None, "train": TRAIN}
    return tiny.write_config(tmp_path / "c.yaml", folder, data, **{**content, **changes})


def texts(tmp_path: Path, family: str, method: Any) -> Path:
    folder = lm.save_writer(tmp_path / "model", family)
    rows = lm.write_texts(tmp_path / "rows", train=16, validation=6)
    task = {"name": "text/generation", "data": str(rows), "max_len": 36}
    content = {"method": method, "prompt_len": None, "train": TRAIN, "task": task}
    written = {"generate": {"max_new_tokens": 6}}
    return tiny.write_config(tmp_path / "c.yaml", folder, rows, **{**content, **written})


def scored_again(directory: RunDirectory) -> None:
    """A new model with the run's checkpoint gives its scores and its predictions."""
    again = open_for_rescoring(directory, split=None, data=None, device=tiny.CPU, offline=True)
    assert {line.verdict for line in again.evaluate("validation")} == {"equal"}
    run = Run(directory, offline=True)
    lines = run.predictions()
    found = Run(directory, offline=True).predict([line["row"] for line in lines])
    for line, new in zip(lines, found, strict=True):
        assert {*new["prediction"]} <= {*line["prediction"]}
        for key in ("label", "text"):
            assert new["prediction"].get(key) == line["prediction"].get(key)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_learns_and_is_scored_again(method: str, folder_of: FolderOf, tmp_path: Path) -> None:
    train = {**TRAIN, "epochs": 4}
    path = rte(tmp_path, folder_of("bert"), method=method, train=train)
    session, metrics = tiny.trained(path, tmp_path / "runs")
    directory = session.resolved_run.directory
    history = [line["train_loss"] for line in directory.read_history()]
    assert history[-1] < history[0]
    scored_again(directory)
    parameters = metrics["parameters"]
    assert parameters["adapter"] > 0 == parameters["prompt"]
    pooler = 32 * 32 + 32 if session.learner.backbone.untrained else 0
    assert parameters["trainable"] == parameters["adapter"] + parameters["head"] + pooler
    names = read_checkpoint(directory.checkpoints, "best").part("learner")
    assert {name.partition(".")[0] for name in names} <= {"method", "head"}
    assert all("base_model.model." in name for name in names if name.startswith("method."))


def test_a_resumed_run_has_the_same_bits(folder_of: FolderOf, tmp_path: Path) -> None:
    path = rte(tmp_path, folder_of("bert"))
    whole, _ = tiny.trained(path, tmp_path / "whole")
    again, _ = tiny.trained(path, tmp_path / "again")
    one = whole.resolved_run.directory.path
    assert_bit_equal(one, again.resolved_run.directory.path)

    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise KeyboardInterrupt

    session = tiny.opened(path, tmp_path / "cut")
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        trainer.train(session, [lambda run: tiny.Follower(stop)])
    tiny.trained(path, tmp_path / "cut", resume=True)
    assert_bit_equal(one, session.resolved_run.directory.path)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.parametrize("method", ["lora", "ia3", "ln_tuning"])
def test_texts_are_written_with_the_adapter(family: str, method: str, tmp_path: Path) -> None:
    session, _ = tiny.trained(texts(tmp_path, family, method), tmp_path / "runs")
    scored_again(session.resolved_run.directory)
    names = session.learner.own_state()
    assert all(name.startswith("method.base_model.model.") for name in names)


def test_a_verbalizer_with_an_adapter(tmp_path: Path) -> None:
    rows = lm.write_rows(tmp_path / "rows")
    path = tiny.write_config(
        tmp_path / "c.yaml",
        lm.save_masked(tmp_path / "model"),
        rows,
        method="lora",
        prompt_len=None,
        head={
            "name": "verbalizer",
            "template": lm.TEMPLATE,
            "words": {"right": "false", "wrong": "true"},
        },
        train={**TRAIN, "epochs": 6},
        task={"name": "text/classification", "data": str(rows), "max_len": 32},
    )
    session, metrics = tiny.trained(path, tmp_path / "runs")
    assert metrics["metrics"]["validation"]["accuracy"] > 0.9  # swapped words: it begins below 0.5
    scored_again(session.resolved_run.directory)


def test_several_tasks_share_an_adapter(folder_of: FolderOf, tmp_path: Path) -> None:
    rows = lm.write_rows(tmp_path / "rows", train=12, validation=6)
    tasks = [
        {"name": "superglue/rte", "data": str(tmp_path / "rte")},
        {"name": "text/classification", "data": str(rows)},
    ]
    path = rte(tmp_path, folder_of("bert"), task=None, tasks=tasks)
    session, _ = tiny.trained(path, tmp_path / "runs")
    scored = open_for_rescoring(
        session.resolved_run.directory, split=None, data=None, device=tiny.CPU, offline=True
    )
    assert {line.verdict for line in scored.evaluate("validation")} == {"equal"}


@pytest.mark.parametrize("method", METHODS)
def test_integer_weights(method: str, folder_of: FolderOf, tmp_path: Path) -> None:
    path = rte(tmp_path, folder_of("gpt2"), method=method)
    session, _ = tiny.trained(path, tmp_path / "runs", "backbone.quantize=int8")
    scored_again(session.resolved_run.directory)


@pytest.mark.parametrize("method", METHODS)
def test_half_of_the_bits_while_computing(method: str, folder_of: FolderOf, tmp_path: Path) -> None:
    path = rte(tmp_path, folder_of("bert"), method=method, train={**TRAIN, "precision": "bf16"})
    session, _ = tiny.trained(path, tmp_path / "runs")
    weights = dict(session.learner.backbone.model.named_parameters())
    held = {name for name, value in weights.items() if value.dtype == torch.bfloat16}
    assert any("intermediate.dense" in name for name in held)
    assert not any(weights[name].requires_grad for name in held)
    scored_again(session.resolved_run.directory)


@pytest.mark.parametrize("method", METHODS)
def test_recomputed_activations_give_the_same_gradients(
    method: str, folder_of: FolderOf, tmp_path: Path
) -> None:
    found = []
    for checkpointing in (False, True):
        train = {**TRAIN, "gradient_checkpointing": checkpointing}
        path = rte(tmp_path, folder_of("llama"), method=method, train=train)
        session, _ = tiny.trained(path, tmp_path / str(checkpointing))
        found.append(dict(session.learner.method.named_parameters()))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], atol=1e-5, rtol=1e-4)


def test_retention_compares_with_the_bare_model(tmp_path: Path) -> None:
    text = tmp_path / "some.txt"
    text.write_text("ann likes the cat now bob sees the dog " * 4)
    model = lm.save_causal(tmp_path / "model")
    path = rte(
        tmp_path,
        model,
        retention={"text": str(text)},
        task={"name": "superglue/rte", "data": str(tmp_path / "rte"), "max_len": 100},
    )
    session, metrics = tiny.trained(path, tmp_path / "runs")
    found = metrics["retention"]
    ids = session.data.encoder.tokenizer(text.read_text(), return_tensors="pt")["input_ids"]
    stock = transformers.GPT2LMHeadModel.from_pretrained(model).eval()
    with torch.no_grad():
        loss = float(stock(input_ids=ids, labels=ids).loss)
    if found["pieces"] == 1:
        assert found["bare_perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert found["kl"] > 1e-6


def test_what_cannot_share_a_backbone(folder_of: FolderOf, tmp_path: Path) -> None:
    path = rte(tmp_path, folder_of("bert"))
    session, _ = tiny.trained(path, tmp_path / "runs")
    assert alone(session.resolved_run) == ("method", "lora changes the backbone")
    directory = session.resolved_run.directory
    with pytest.raises(ConfigError, match="the backbone of a lora run has layers of its own"):
        MixedRuns([Run(directory, offline=True), Run(directory, offline=True)])


def test_dropout_of_the_adapter_is_drawn_for_the_step(folder_of: FolderOf, tmp_path: Path) -> None:
    """Whatever the global generator has drawn."""
    method = {"name": "lora", "lora_dropout": 0.5}
    path = rte(tmp_path, folder_of("bert"), method=method)
    session = tiny.opened(path, tmp_path / "runs", "backbone.dropout=off")
    lane = session.new_lane()
    with torch.no_grad():
        for value in session.learner.method.parameters():
            value.add_(0.1)
    batch = lane.next_batch()
    session.learner.train()
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(session.learner(batch).loss.item())
    (draws,) = batch.draws
    other = session.learner(replace(batch, draws=(replace(draws, step=5),))).loss.item()
    assert losses[0] == losses[1] != other
