"""`train.shard: full` where the backbone trains: gradients and optimizer states in parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor

from ptv2_cli.distributed.group import ALONE, ProcessGroup
from ptv2_cli.distributed.shard import is_shared, part_of
from ptv2_cli.multiplex import Sharing
from ptv2_cli.training.checkpoint import Checkpoint
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import train_batch
from ptv2_cli.training.optim import trained_values
from ptv2_cli.training.shared_checkpoint import received
from tests.distributed import test_exact as exact
from tests.distributed import test_stopping as stopping
from tests.distributed.test_shard import FolderOf, assert_trains_alike, write

TRAIN = {**exact.TRAIN, "lr": 0.001, "clip": 0.05}
TUNED = {"method": "finetune", "prompt_len": None, "train": TRAIN}
"""The norm of every step's gradients is above the limit."""


def tuned(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    """Gradients of several batches, averaged weights, and a test split for the best of them."""
    train = {**TRAIN, "batch_size": 3, "accumulate": 2, "average": 0.5, "weight_decay": 0.5}
    tiny.write_rte(folder, train=15, test=5)
    report = {"report": ["validation", "test"]}
    return {**TUNED, "task": {"name": "superglue/rte"}, "train": train, **report}


def one_module(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    """One module for all layers."""
    backbone = {"name": str(folder_of("albert")), "dropout": 0.2}
    return {**exact.sequence(folder, folder_of), **TUNED, "backbone": backbone}


def positions(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    """All layers read a table of the first one; words have three names."""
    return {**exact.spans(folder, folder_of), **TUNED, "backbone": str(folder_of("t5"))}


def prompted(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    """Prompt vectors train beside the backbone, whose activations are computed again."""
    method = {"name": "ptuning_v1", "train_backbone": True, "backbone_lr": 0.0005}
    train = {**TRAIN, "gradient_checkpointing": True}
    return {**exact.sequence(folder, folder_of), "method": method, "train": train}


def writer(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    return {**exact.generation(folder, folder_of), **TUNED}


def half(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    """bf16, which autocast makes of the weights of one module once for all its layers."""
    return {**one_module(folder, folder_of), "train": {**TRAIN, "precision": "bf16"}}


def offloaded(folder: Path, folder_of: FolderOf) -> dict[str, Any]:
    return {**exact.sequence(folder, folder_of), **TUNED, "train": {**TRAIN, "cpu_offload": True}}


CASES = (offloaded, tuned, one_module, positions, prompted, writer, half)


def tensors(output: Path, role: str) -> dict[str, Tensor]:
    """The tensors of a run's checkpoint."""
    (file,) = output.glob(f"*/checkpoints/{role}-*.safetensors")
    return load_file(file)


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], close: float) -> None:
    """Equal but for the last bits of AdamW's moments, from which the weights follow."""
    assert {name: v.shape for name, v in found.items()} == {
        name: v.shape for name, v in expected.items()
    }
    for name, value in expected.items():
        if name.endswith(("exp_avg", "exp_avg_sq")):
            assert (found[name] - value).abs().max() < close, name


@pytest.mark.parametrize(
    ("case", "size"),
    [*((case, 2) for case in CASES), (one_module, 3)],  # three parts of 32 rows are not equal
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_shared_weights_train_as_whole_ones(
    case: Callable[..., dict[str, Any]], size: int, tmp_path: Path, folder_of: FolderOf
) -> None:
    config = write(case, tmp_path, folder_of)
    close = 1e-2 if case is half else 1e-5
    first = assert_trains_alike(config, tmp_path, size, close)
    for role in ("last", "best"):
        assert_alike(*(tensors(tmp_path / name, role) for name in ("several", "alone")), close)
    # The checkpoint is that of one process, and has the weights that were scored.
    session, metrics = tiny.trained(config, tmp_path / "several", resume=True)
    assert metrics["metrics"] == first["metrics"]["metrics"]
    session.load_best()
    scores = session.evaluate("validation").scores.metrics
    if case is not half:
        exact.assert_close(scores, first["metrics"]["metrics"]["validation"])


def held(config: Path, output: Path, group: ProcessGroup) -> dict[str, int]:
    """How many values of weights, gradients and moments a process has in a step."""
    counts: dict[str, int] = {}
    take_step = Lane.take_step

    def counted(lane: Lane) -> Any:
        values = trained_values(lane.optimizer)
        gradients = [value.grad for value in values if value.grad is not None]
        done = take_step(lane)
        moments = [state["exp_avg"] for state in lane.optimizer.state.values()]
        kept = {"weights": values, "gradients": gradients, "moments": moments}
        counts.update({k: sum(part_of(v).numel() for v in own) for k, own in kept.items()})
        counts["shared"] = sum(value.numel() for value in values if is_shared(value))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "take_step", counted)
        tiny.trained(config, output, group=group)
    return counts


def test_a_process_holds_its_part_of_what_trains(tmp_path: Path, folder_of: FolderOf) -> None:
    config = write(tuned, tmp_path, folder_of)
    alone = held(config, tmp_path / "alone", ALONE)
    assert len({alone[kind] for kind in ("weights", "gradients", "moments")}) == 1
    for counts in ranks.in_ranks(2, lambda group: held(config, tmp_path / "several", group)):
        assert counts["shared"] > 0.6 * alone["weights"]
        part = alone["weights"] - counts["shared"] // 2
        assert counts == {
            **dict.fromkeys(("weights", "gradients", "moments"), part),
            "shared": counts["shared"],
        }


def test_a_stopped_run_goes_on(tmp_path: Path, folder_of: FolderOf) -> None:
    """With two processes to the same bits, or with one, which has all weights again."""
    config = write(tuned, tmp_path, folder_of)
    output = tmp_path / "out"
    stopping.interrupted(config, output, 2, step=4)  # the mean of the weights has begun
    shutil.copytree(output, tmp_path / "one")
    whole = ranks.in_ranks(2, lambda group: stopping.trained(config, tmp_path / "whole", group))
    rest = ranks.in_ranks(2, lambda group: stopping.trained(config, output, group))
    for before, after in zip(whole, rest, strict=True):
        assert after["losses"] == before["losses"][4:]
        for name, value in before["weights"].items():
            assert np.array_equal(after["weights"][name], value), name
    config.write_text(config.read_text().replace("  shard: full\n", ""))
    alone = stopping.trained(config, tmp_path / "one", ALONE)
    assert alone["losses"] == pytest.approx(whole[0]["losses"][4:], abs=1e-5)
    exact.assert_close(alone["metrics"]["metrics"], whole[0]["metrics"]["metrics"])
    assert alone["metrics"]["fingerprint"] == whole[0]["metrics"]["fingerprint"]


def test_two_processes_go_on_with_a_run_of_one(tmp_path: Path, folder_of: FolderOf) -> None:
    """They evaluate before their first step."""
    config = write(tuned, tmp_path, folder_of)
    stopping.interrupted(config, tmp_path / "out", 1, step=3)
    alone = stopping.trained(config, tmp_path / "alone", ALONE)
    rest, _ = ranks.in_ranks(2, lambda group: stopping.trained(config, tmp_path / "out", group))
    assert rest["losses"] == pytest.approx(alone["losses"][3:], abs=1e-5)
    exact.assert_close(rest["metrics"]["metrics"], alone["metrics"]["metrics"])


def test_a_range_test_leaves_the_parts_as_they_were(tmp_path: Path, folder_of: FolderOf) -> None:
    config = write(tuned, tmp_path, folder_of)

    def tested(group: ProcessGroup) -> Any:
        session = tiny.opened(config, tmp_path / "runs", "train.lr=auto", group=group)
        own = session.learner.own_state
        before = {name: part_of(value).clone() for name, value in own().items()}
        session.range_test(lambda steps: None)
        return [name for name, v in own().items() if not torch.equal(part_of(v), before[name])]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptv2_cli.training.lr_range.rates_around", lambda rate: [rate, 9 * rate])
        assert ranks.in_ranks(2, tested) == [[], []]


@pytest.mark.parametrize("method", ["finetune", "ptuning_v2"])
def test_parts_stay_in_main_memory(method: str, tmp_path: Path, folder_of: FolderOf) -> None:
    config = write(exact.sequence, tmp_path, folder_of)
    length = "null" if method == "finetune" else "3"
    sets = ("train.cpu_offload=true", f"method={method}", f"prompt_len={length}")

    def offloading(group: ProcessGroup) -> Any:
        session = tiny.opened(config, tmp_path / "runs", *sets, group=group)
        layers = session.learner.backbone.model.encoder.layer
        groups = [layer._get_fsdp_state()._fsdp_param_group for layer in layers]
        parts = [part.offload_to_cpu for group in groups for part in group.fsdp_params]
        return parts, session.warnings

    for parts, warnings in ranks.in_ranks(2, offloading):
        assert len(parts) > 40
        assert all(parts)
        assert warnings == ["train.cpu_offload has no effect: the weights are in main memory"]
    assert "train.shard is not set" in tiny.problems(config, *sets, "train.shard=null")


@pytest.mark.parametrize("shard", ["full", "null"])
def test_a_step_under_way_is_added_up_once(shard: str, tmp_path: Path, folder_of: FolderOf) -> None:
    """Trials that train side by side are saved between two batches of a step."""
    config = write(tuned, tmp_path, folder_of)

    def lane(group: ProcessGroup) -> Lane:
        return tiny.opened(config, tmp_path, f"train.shard={shard}", group=group).new_lane()

    def rest(lane: Lane) -> list[float]:
        steps = [done for _ in range(3) for _, done in train_batch([lane], Sharing())]
        return [float(done.loss) for done in steps]

    begun = lane(ALONE)
    assert train_batch([begun], Sharing()) == []
    tensors, state = begun.state()
    saved = Checkpoint({name: value.clone() for name, value in tensors.items()}, state)

    def gone_on(group: ProcessGroup) -> list[float]:
        other = lane(group)
        read = received(saved if group.first else None, other.shared(), group)
        assert read is not None
        other.restore(read, tmp_path)
        return rest(other)

    found = ranks.in_ranks(2, gone_on)
    assert found == [pytest.approx(rest(begun), abs=1e-5)] * 2
