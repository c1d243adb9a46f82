"""Equal seeds give equal bits, and an interrupted run ends like one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from left_behind import assert_bit_equal, assert_tidy, read_checkpoint
from safetensors.torch import load_file

from ptv2_cli.errors import Interrupted
from ptv2_cli.runs import trainer
from ptv2_cli.training.events import EvalDone, StepDone, Ticked, Warned


class Case:
    """A config, its uninterrupted run, and a place for others of the same."""

    def __init__(
        self,
        root: Path,
        model: Path,
        *,
        nearly_one_label: bool = False,
        test: int = 0,
        **changes: Any,
    ) -> None:
        self.root = root
        data = tiny.write_rte(root / "data", test=test)
        if nearly_one_label:
            train = data / "train.jsonl"
            first, second, *others = train.read_text().splitlines()
            lines = [first, second, *(line.replace("not_entail", "entail") for line in others)]
            train.write_text("\n".join(lines))
        self.config = tiny.write_config(root / "case.yaml", model, data, **changes)
        self.session, self.metrics = tiny.trained(self.config, root / "whole")

    @property
    def whole(self) -> Path:
        return self.session.resolved_run.directory.path

    def directory(self, name: str) -> Path:
        return self.root / name / self.whole.name

    def resume(self, name: str) -> Path:
        session, _ = tiny.trained(self.config, self.root / name, resume=True)
        assert session.resolved_run.directory.path == self.directory(name)
        return self.directory(name)


TRAIN = {"lr": 0.05, "epochs": 3, "batch_size": 4, "eval_batch_size": 8, "seed": 11}


@pytest.fixture(scope="module")
def case(folder_of, tmp_path_factory) -> Case:
    """P-tuning v2 with all dropouts on: 18 steps, 3 evaluations."""
    return Case(tmp_path_factory.mktemp("case"), folder_of("bert"))


@pytest.fixture(scope="module")
def tuned(folder_of, tmp_path_factory) -> Case:
    """Fine-tuning with accumulation and a stop in the middle of an epoch."""
    return Case(
        tmp_path_factory.mktemp("tuned"),
        folder_of("bert"),
        method="finetune",
        prompt_len=None,
        train={**TRAIN, "lr": 1e-3, "epochs": 2, "accumulate": 2, "eval_every": 2},
    )


def test_dropout_is_on_and_prompts_matter(case) -> None:
    assert case.session.learner.backbone.dropout == 0.1
    assert case.session.learner.method.dropout.probability == 0.1
    assert case.metrics["evaluations"] == 3
    best, last = (read_checkpoint(case.whole / "checkpoints", n) for n in ("best", "last"))
    assert best.tensors.keys() < last.tensors.keys()


@pytest.mark.parametrize("which", ["case", "tuned"])
def test_two_runs_of_one_seed_are_bit_equal(which, request) -> None:
    one = request.getfixturevalue(which)
    torch.manual_seed(123)  # whatever the process did before
    before = torch.get_rng_state()
    tiny.trained(one.config, one.root / "again")
    assert torch.equal(torch.get_rng_state(), before)
    assert_bit_equal(one.whole, one.directory("again"))


def test_another_seed_differs(case) -> None:
    session, metrics = tiny.trained(case.config, case.root / "other", "train.seed=12")
    other = read_checkpoint(session.resolved_run.directory.checkpoints, "last").tensors
    mine = read_checkpoint(case.whole / "checkpoints", "last").tensors
    assert not torch.equal(
        other["learner.method.source.prompt"], mine["learner.method.source.prompt"]
    )
    assert not torch.equal(other["learner.head.linear.weight"], mine["learner.head.linear.weight"])
    assert metrics["fingerprint"] != case.metrics["fingerprint"]


# SIGKILL

DRAWS = random.Random(20)
STEPS = sorted(DRAWS.sample(range(1, 19), 3))
SYNCS = sorted(DRAWS.sample(range(3, 95), 7))


def plans(case: Case, tuned: Case) -> dict[str, list[dict[str, Any]]]:
    """Kills by the name of the place that they leave behind."""

    def plan(of: Case, name: str, **fields: Any) -> dict[str, Any]:
        return {"config": str(of.config), "output": str(of.root / name), **fields}

    made = {f"step{n}": [plan(case, f"step{n}", step=n)] for n in STEPS}
    made |= {f"sync{n}": [plan(case, f"sync{n}", fsync=n)] for n in SYNCS}
    made["unsaved"] = [plan(case, "unsaved", step=8, save_seconds=300.0)]
    made["twice"] = [
        plan(case, "twice", step=5),
        plan(case, "twice", step=6, resume=True),
        plan(case, "twice", fsync=20, resume=True),
    ]
    made["tuned"] = [plan(tuned, "tuned", step=3)]
    return made


KILLED = [*(f"step{n}" for n in STEPS), *(f"sync{n}" for n in SYNCS), "unsaved", "twice"]


@pytest.fixture(scope="module")
def killed(case, tuned) -> dict[str, list[int | str | None]]:
    """The signals that ended the runs of `plans`; one more process only predicts."""
    planned = plans(case, tuned)
    logits = {"config": str(case.config), "output": str(case.root / "whole")}
    every = [plan for group in planned.values() for plan in group]
    every.append({**logits, "logits": str(case.root / "logits.safetensors")})
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py")), json.dumps(every)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = [json.loads(line) for line in done.stdout.splitlines() if not line.startswith("Map")]
    found, at = {}, 0
    for name, group in planned.items():
        found[name] = ends[at : at + len(group)]
        at += len(group)
    return {**found, "logits": ends[at:]}


@pytest.mark.parametrize("name", KILLED)
def test_killed_and_started_again_ends_bit_equal(name, case, killed) -> None:
    assert set(killed[name]) == {signal.SIGKILL}
    left = case.directory(name)
    assert not (left / "metrics.json").exists()
    assert_bit_equal(case.whole, case.resume(name))
    assert_tidy(left)


def test_killed_finetuning_ends_bit_equal(tuned, killed) -> None:
    assert killed["tuned"] == [signal.SIGKILL]
    assert_bit_equal(tuned.whole, tuned.resume("tuned"))


def test_a_fresh_process_predicts_equal_bits(case, killed) -> None:
    assert killed["logits"] == [None]
    case.session.load_best()
    outputs = case.session.predictor(case.session.data.features("validation"))
    mine = torch.stack([torch.as_tensor(row["probabilities"]) for row in outputs])
    assert torch.equal(load_file(case.root / "logits.safetensors")["probabilities"], mine)
    lines = (case.whole / "predictions" / "validation.jsonl").read_text().splitlines()
    logged = [list(json.loads(line)["prediction"]["probabilities"].values()) for line in lines]
    assert torch.equal(torch.tensor(logged), mine)


# SIGINT and SIGTERM


def interrupted(case: Case, name: str, number: int, when) -> list[Any]:
    """Train until `when(event)`, then receive a signal; the events seen."""
    events: list[Any] = []
    sent = False

    def listen(event: Any) -> None:
        nonlocal sent
        events.append(event)
        if not sent and when(event):
            sent = True
            signal.raise_signal(number)

    with pytest.raises(Interrupted) as caught:
        tiny.trained(case.config, case.root / name, listen=listen)
    assert caught.value.exit_code == 128 + number
    assert "the run is saved" in str(caught.value)
    return events


@pytest.mark.parametrize(
    ("name", "number", "when", "resumed_at"),
    [
        ("int", signal.SIGINT, lambda e: isinstance(e, StepDone) and e.step == 8, 8),
        ("term", signal.SIGTERM, lambda e: isinstance(e, StepDone) and e.step == 5, 5),
        ("evaluating", signal.SIGINT, lambda e: isinstance(e, Ticked) and e.done == 8, 6),
        ("evaluated", signal.SIGINT, lambda e: isinstance(e, EvalDone) and e.step == 12, 12),
        ("last", signal.SIGINT, lambda e: isinstance(e, StepDone) and e.step == 18, 18),
    ],
)
def test_a_signal_saves_and_the_run_goes_on_bit_equal(name, number, when, resumed_at, case) -> None:
    before = signal.getsignal(number)
    events = interrupted(case, name, number, when)
    assert signal.getsignal(number) == before
    assert max(e.step for e in events if isinstance(e, StepDone)) == resumed_at
    state = read_checkpoint(case.directory(name) / "checkpoints", "last").state
    assert state["progress"]["step"] == resumed_at
    assert_bit_equal(case.whole, case.resume(name))


@pytest.mark.parametrize(
    "options",
    [
        {"key_lr_factor": 0.1, "freeze_first": True},
        {"reparam": "residual", "reparam_hidden": 8},
    ],
)
def test_prompts_with_more_than_one_part_go_on_bit_equal(options, folder_of, tmp_path) -> None:
    parts = Case(tmp_path, folder_of("gpt2"), method={"name": "ptuning_v2", **options})
    interrupted(parts, "cut", signal.SIGINT, lambda e: isinstance(e, StepDone) and e.step == 8)
    assert_bit_equal(parts.whole, parts.resume("cut"))


def test_a_signal_while_finishing_keeps_the_run(folder_of, tmp_path) -> None:
    both = Case(tmp_path, folder_of("bert"), test=6, report=["validation", "test"])
    ticks = []

    def third_evaluation_is_over(event: Any) -> bool:
        ticks.extend([event] if isinstance(event, EvalDone) else [])
        return len(ticks) == 3 and isinstance(event, Ticked)

    interrupted(both, "finishing", signal.SIGINT, third_evaluation_is_over)
    assert_bit_equal(both.whole, both.resume("finishing"))


def test_warnings_of_the_first_part_survive(folder_of, tmp_path) -> None:
    """The collapse warning came before the interruption; metrics.json must still hold it."""
    stuck = Case(tmp_path, folder_of("bert"), train={**TRAIN, "epochs": 5}, nearly_one_label=True)
    assert any("stuck on one class" in text for text in stuck.metrics["warnings"])
    interrupted(
        stuck,
        "cut",
        signal.SIGINT,
        lambda e: isinstance(e, Warned) and "stuck on one class" in e.text,
    )
    assert_bit_equal(stuck.whole, stuck.resume("cut"))


def test_mid_epoch_saves_do_not_change_the_run(case, monkeypatch) -> None:
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    tiny.trained(case.config, case.root / "saving")
    assert_bit_equal(case.whole, case.directory("saving"))
    assert_tidy(case.directory("saving"))


def test_starting_over_leaves_nothing_of_the_old_run(case) -> None:
    tiny.trained(case.config, case.root / "over")
    left = case.directory("over")
    (left / "checkpoints" / "last-0123456789abcdef.safetensors").write_bytes(b"stale")
    (left / "eval").mkdir()
    (left / "eval" / "validation.json").write_text("{}")
    tiny.trained(case.config, case.root / "over", resume=False)
    assert_bit_equal(case.whole, left)
    assert not list(left.glob("eval/*"))
    assert_tidy(left)
