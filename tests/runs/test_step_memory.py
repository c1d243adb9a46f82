"""The memory of a training step, told without weights, against what a real step saves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ptv2_cli.errors import MachineError
from ptv2_cli.heads.base import Output
from ptv2_cli.inputs.batch import Batch
from ptv2_cli.learner import Learner
from ptv2_cli.runs.memory_levers import _possible, _with, levers, memory_explained
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.rows.encoding import encode, tokenizer_of
from ptv2_cli.runs.step_memory import MOST_ANSWERS, SLACK, StepMemory, step_memory
from ptv2_cli.sweeps import memory_estimate
from tests import tiny

FOLDERS: dict[str, Callable[..., Path]] = {
    "superglue/rte": tiny.write_rte,
    "ner/conll2003": tiny.write_ner,
    "qa/squad": tiny.write_squad,
    "superglue/copa": tiny.write_choice,
}


@pytest.fixture
def run_of(tmp_path: Path, folder_of: Callable[[str], Path]) -> Callable[..., ResolvedRun]:
    """A run of a tiny model without dropout; its weights are there, for the real step."""

    def run(family: str, task: str = "superglue/rte", **changes: Any) -> ResolvedRun:
        data = FOLDERS[task](tmp_path / "data")
        section = {"dropout": "off"} | changes.pop("backbone", {})
        changes = {"task": {"name": task, "data": str(data)}, "train": {"steps": 1}} | changes
        config = tiny.write_config(tmp_path / "config.yaml", folder_of(family), data, **changes)
        sets = [f"backbone.{key}={value}" for key, value in section.items()]
        return tiny.prepared(config, tmp_path / "runs", sets)

    return run


def told(run: ResolvedRun) -> StepMemory:
    data = encode(run.resolved, run.data, tokenizer_of(run.resolved))
    found = step_memory(run.resolved, data, tiny.CPU)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("family", "task", "method"),
    [
        ("bert", "superglue/rte", "ptuning_v2"),
        ("bert", "superglue/rte", "finetune"),
        ("roberta", "ner/conll2003", "ptuning_v2"),
        ("albert", "superglue/rte", "prompt_tuning"),
        ("bert", "qa/squad", "ptuning_v2"),
        ("bert", "superglue/rte", "ptuning_v1"),
        ("bert", "superglue/rte", "houlsby_adapter"),
        ("bert", "superglue/rte", "parallel_adapter"),
        ("bert", "superglue/rte", "mam"),
        ("bert", "superglue/rte", "bitfit"),
        ("bert", "superglue/rte", "prefix_tuning_plus"),
        ("modernbert", "superglue/rte", "ptuning_v2"),
        ("deberta-v2", "superglue/rte", "ptuning_v2"),
        ("llama", "superglue/rte", "ptuning_v2"),
        ("t5", "superglue/rte", "ptuning_v2"),
    ],
)
def test_against_what_a_real_step_saves(
    family: str, task: str, method: str, run_of: Callable[..., ResolvedRun]
) -> None:
    run = run_of(family, task, method=method)
    memory = told(run)
    session = tiny.open_session(run, tiny.CPU)
    backbone = session.learner.backbone
    tensors = [*backbone.parameters(), *backbone.buffers()]
    assert memory.backbone == sum({id(each): each.nbytes for each in tensors}.values())
    real = memory_estimate.need_of(session)
    trained = real.own // memory_estimate.STATE
    assert memory.trained == 8 * trained
    saved = real.batch / memory_estimate.SLACK
    beside = 0 if method == "finetune" else 4 * trained
    assert saved + beside <= memory.step / SLACK <= 2 * saved + 8 * trained + 2**20


def test_what_changes_it(run_of: Callable[..., ResolvedRun]) -> None:
    plain = told(run_of("llama"))
    checkpointed = told(run_of("llama", train={"steps": 1, "gradient_checkpointing": True}))
    assert checkpointed.step < 0.7 * plain.step
    half = told(run_of("llama", backbone={"dtype": "bf16"}))
    assert half.backbone == pytest.approx(plain.backbone / 2, rel=0.05)
    averaged = told(run_of("llama", train={"steps": 1, "average": 0.5}))
    assert averaged.trained == 1.5 * plain.trained
    accumulated = told(run_of("llama", method="finetune", train={"steps": 1, "accumulate": 4}))
    alone = told(run_of("llama", method="finetune"))
    assert accumulated.step > alone.step + 0.5 * alone.backbone


def test_int8_as_it_is_held(run_of: Callable[..., ResolvedRun]) -> None:
    pytest.importorskip("torchao")
    run = run_of("llama", backbone={"quantize": "int8"})
    backbone = tiny.open_session(run, tiny.CPU).learner.backbone
    held = 0
    for each in [*backbone.parameters(), *backbone.buffers()]:
        names = getattr(each, "__tensor_flatten__", lambda: ([], None))()[0]
        held += sum(getattr(each, name).nbytes for name in names) if names else each.nbytes
    assert told(run).backbone == held


def test_code_that_needs_values_is_not_known(
    run_of: Callable[..., ResolvedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("bert")
    data = encode(run.resolved, run.data, tokenizer_of(run.resolved))
    monkeypatch.setattr("ptv2_cli.learner.Learner.forward", lambda *_: 1 / 0)
    assert step_memory(run.resolved, data, tiny.CPU) is None
    assert levers(run.resolved, data, tiny.CPU) == []


@pytest.mark.parametrize(
    ("question", "known", "turns"),
    [(torch.any, True, 1), (torch.sum, False, MOST_ANSWERS)],  # True, then False; 1 for ever
)
def test_a_loop_that_waits_for_values_ends(
    question: Callable[[Tensor], Tensor],
    known: bool,
    turns: int,
    run_of: Callable[..., ResolvedRun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_of("bert")
    data = encode(run.resolved, run.data, tokenizer_of(run.resolved))
    forward, seen = Learner.forward, []

    def waits(learner: Learner, batch: Batch) -> Output:
        output = forward(learner, batch)
        while question(output.loss > 0).item():
            seen.append(1)
        return output

    monkeypatch.setattr(Learner, "forward", waits)
    assert (step_memory(run.resolved, data, tiny.CPU) is not None) == known
    assert len(seen) == turns


def test_out_of_memory_names_what_helps_most(
    run_of: Callable[..., ResolvedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("llama", train={"steps": 1, "batch_size": 8})
    data = encode(run.resolved, run.data, tokenizer_of(run.resolved))
    first, second, *_ = levers(run.resolved, data, tiny.CPU)
    assert first.saved >= second.saved > 0
    assert first.sets == ("train.gradient_checkpointing=true",)
    with pytest.raises(torch.OutOfMemoryError), memory_explained(run, tiny.CPU):
        raise torch.OutOfMemoryError  # a step of 1 MiB does not explain it
    monkeypatch.setattr("ptv2_cli.runs.memory_levers.total_memory", lambda device: 2**20)
    with pytest.raises(MachineError) as caught, memory_explained(run, tiny.CPU):
        raise torch.OutOfMemoryError
    (problem,) = caught.value.problems
    assert "a training step needs about" in problem.what
    assert problem.hint == f"{first}; or {second}"
    assert "--set train.gradient_checkpointing=true saves about" in problem.hint
    with pytest.raises(ZeroDivisionError), memory_explained(run, tiny.CPU):
        _ = 1 / 0


def test_devices_share_the_batch_and_the_layers(run_of: Callable[..., ResolvedRun]) -> None:
    train = {"steps": 1, "batch_size": 8}
    run = run_of("llama", train=train)
    data = encode(run.resolved, run.data, tokenizer_of(run.resolved))
    alone, half = (step_memory(run.resolved, data, tiny.CPU, count) for count in (1, 2))
    assert alone is not None
    assert half is not None
    assert (half.backbone, half.gathered) == (alone.backbone, 0)
    assert 0.4 * alone.step < half.step < 0.6 * alone.step
    (lever,) = [each for each in _possible(run.resolved, 2) if "shard" in each.sets[0]]
    assert lever.sets == ("train.shard=full",)
    assert all("shard" not in each.sets[0] for each in _possible(run.resolved, 1))
    shared = step_memory(_with(run.resolved, lever), data, tiny.CPU, 2)
    assert shared is not None
    backbone = tiny.open_session(run, tiny.CPU).learner.backbone
    layers = [sum(value.nbytes for value in each.parameters()) for each in backbone.model.layers]
    assert alone.backbone - shared.backbone == sum(layers) // 2
    assert shared.gathered == sum(layers)  # half of them, forward and backward
    assert shared.step - half.step == 3 * max(layers)


def test_devices_share_what_trains(run_of: Callable[..., ResolvedRun]) -> None:
    train = {"steps": 1, "batch_size": 8, "accumulate": 2, "shard": "full"}
    run = run_of("llama", method="finetune", prompt_len=None, train=train)
    data = encode(run.resolved, run.data, tokenizer_of(run.resolved))
    alone, two, four = (step_memory(run.resolved, data, tiny.CPU, count) for count in (1, 2, 4))
    assert alone is not None
    assert two is not None
    assert four is not None
    backbone = tiny.open_session(run, tiny.CPU).learner.backbone
    layers = [sum(value.nbytes for value in each.parameters()) for each in backbone.model.layers]
    for count, shared in ((2, two), (4, four)):
        others = sum(layers) - sum(layers) // count
        assert alone.backbone - shared.backbone == others
        assert alone.trained - shared.trained == 2 * others  # two moments
        assert shared.gathered == 2 * 3 * others  # two batches: forward, backward, gradients
    assert alone.gathered == 0
    # Beside a part of the gradients there is room for those of three layers, and for its weights.
    assert four.step < two.step < alone.step - sum(layers) // 2 + 6 * max(layers)


def test_what_is_kept_in_main_memory(
    run_of: Callable[..., ResolvedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU it is the same memory; on another device that memory is free."""
    train = {"steps": 1, "batch_size": 8, "shard": "full"}
    for method, times in (("finetune", 4), ("head_only", 1)):  # weights, gradients, two moments
        run = run_of("llama", method=method, prompt_len=None, train=train)
        data = encode(run.resolved, run.data, tokenizer_of(run.resolved))
        (lever,) = [each for each in _possible(run.resolved, 2) if "offload" in each.sets[0]]
        offloaded = _with(run.resolved, lever)
        here = step_memory(run.resolved, data, tiny.CPU, 2)
        assert here is not None
        with monkeypatch.context() as patch:
            patch.setattr("ptv2_cli.runs.step_memory._offloads", lambda *_: True)
            away = step_memory(offloaded, data, tiny.CPU, 2)
        assert away is not None
        backbone = tiny.open_session(run, tiny.CPU).learner.backbone
        values = [value for each in backbone.model.layers for value in each.parameters()]
        part = sum(value.nbytes for value in values) // 2
        assert away.offloaded == times * part == here.total - away.total
        assert step_memory(offloaded, data, tiny.CPU, 2) == here
