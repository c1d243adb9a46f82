"""`train.average`: evaluations, `best` and predictions have the mean of the last steps' weights."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import laned
import pytest
import tiny
import torch
from left_behind import assert_bit_equal, read_checkpoint
from torch import Tensor

from ptv2_cli.errors import Interrupted
from ptv2_cli.runs import trainer
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.session import Session
from ptv2_cli.sweeps.memory_estimate import need_of
from ptv2_cli.training.averaging import WeightAverage
from ptv2_cli.training.events import EvalDone, StepDone

FolderOf = Callable[[str], Path]
TAIL = "train.average=0.5"
"""Of 18 steps, evaluated every 6: the mean is over steps 10 to 18."""
METHODS: dict[str, dict[str, Any]] = {
    "ptuning_v2": {},
    "finetune": {"method": "finetune", "prompt_len": None},
    "bitfit": {"method": "bitfit", "prompt_len": None},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("rte"), test=10)


@pytest.fixture
def config(folder_of: FolderOf, data: Path, tmp_path: Path) -> Path:
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)


class Watched:
    """A run, and copies of its trained weights and losses after every step."""

    def __init__(self, config: Path, output: Path, *sets: str) -> None:
        self.session: Session = tiny.opened(config, output, *sets)
        self.weights: list[dict[str, Tensor]] = []
        self.losses: list[float] = []
        self.evaluations: list[EvalDone] = []
        sink = lambda run: tiny.Follower(self._note)  # noqa: E731
        self.metrics = trainer.train(self.session, [sink], resume=False)

    def _note(self, event: Any) -> None:
        if isinstance(event, StepDone):
            self.losses.append(float(event.loss))
            state = self.session.learner.own_state()
            self.weights.append({name: value.clone() for name, value in state.items()})
        elif isinstance(event, EvalDone):
            self.evaluations.append(event)

    @property
    def folder(self) -> Path:
        return self.session.resolved_run.directory.path

    def saved(self, role: Any) -> dict[str, Tensor]:
        return read_checkpoint(self.folder / "checkpoints", role).part("learner")


def test_the_mean_begins_late_and_counts_each_step_the_same() -> None:
    value = torch.zeros(2)
    average = WeightAverage([value], steps=10, share=0.25)
    for step in range(1, 11):
        value.fill_(float(step) ** 2)
        average.add(step)
        with average.in_place():
            expected = value if step < 9 else torch.tensor([81.0, 81.0 if step == 9 else 90.5])
            assert value[1] == (expected[1] if step >= 9 else step**2)
        assert value.tolist() == [float(step) ** 2] * 2
    assert [average.count(step) for step in (0, 8, 9, 10)] == [0, 0, 1, 2]


def test_at_least_the_last_step_counts() -> None:
    assert WeightAverage([], steps=3, share=0.01).count(3) == 1
    assert WeightAverage([], steps=3, share=1.0).count(3) == 3


def test_an_evaluation_that_fails_gives_the_weights_back() -> None:
    value = torch.zeros(1)
    average = WeightAverage([value], steps=1, share=1.0)
    average.add(1)
    value.fill_(5.0)
    with contextlib.suppress(Interrupted), average.in_place():
        assert value == 0.0
        raise Interrupted(2)
    assert value == 5.0


@pytest.mark.parametrize("method", METHODS)
def test_the_saved_run_has_the_mean(
    method: str, folder_of: FolderOf, data: Path, tmp_path: Path
) -> None:
    config = tiny.write_config(tmp_path / "c.yaml", folder_of("bert"), data, **METHODS[method])
    run = Watched(config, tmp_path / "on", TAIL, "train.lr=1e-3", "train.eval_every=18")
    best, last = run.saved("best"), run.saved("last")
    moved = 0
    for name, value in best.items():
        steps = torch.stack([weights[name].double() for weights in run.weights[9:]])
        torch.testing.assert_close(value.double(), steps.mean(0), atol=1e-6, rtol=1e-5)
        assert torch.equal(last[name], run.weights[-1][name])
        moved += int(not torch.equal(value, last[name]))
    assert moved
    assert run.metrics["selection"]["averaged_steps"] == 9


def test_what_trains_goes_on_with_its_own_weights(config: Path, tmp_path: Path) -> None:
    on, off = Watched(config, tmp_path / "on", TAIL), Watched(config, tmp_path / "off")
    assert on.losses == off.losses
    assert [done.averaged for done in on.evaluations] == [0, 3, 9]
    assert [
        done.loss == other.loss for done, other in zip(on.evaluations, off.evaluations, strict=True)
    ] == [
        True,
        False,
        False,
    ]
    lines = [json.loads(line) for line in (on.folder / "history.jsonl").read_text().splitlines()]
    assert [line.get("averaged_steps") for line in lines] == [None, 3, 9]
    assert torch.equal(*(run.saved("last")["head.linear.weight"] for run in (on, off)))
    plain = read_checkpoint(off.folder / "checkpoints", "last")
    assert not plain.part("average")
    assert "averaged_steps" not in off.metrics["selection"]
    assert "averaged_steps" not in (off.folder / "history.jsonl").read_text()


def test_a_fresh_process_predicts_the_same(config: Path, tmp_path: Path) -> None:
    run = Watched(config, tmp_path, TAIL, "train.eval_every=18")
    rows = [json.loads(line)["row"] for line in _lines(run.folder / "predictions/validation.jsonl")]
    written = [
        json.loads(line)["prediction"]
        for line in _lines(run.folder / "predictions/validation.jsonl")
    ]
    predicted = Run(run.session.resolved_run.directory).predict(rows)
    assert [line["prediction"] for line in predicted] == written


def test_the_last_scores_of_other_splits_are_the_means_too(
    folder_of: FolderOf, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.write_config(
        tmp_path / "c.yaml", folder_of("bert"), data, report=["validation", "test"]
    )
    seen: list[Any] = []
    really = trainer.evaluate

    def evaluate(requests: Any, *rest: Any) -> Any:
        learner = requests[0].predictor.learner
        weight = learner.head.linear.weight.detach().clone()
        seen.append((len(requests[0].features), weight))
        return really(requests, *rest)

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    run = Watched(config, tmp_path, TAIL, "train.lr=1e-9")  # the first evaluation is the best
    assert run.metrics["selection"]["averaged_steps"] == 0
    assert [rows for rows, _ in seen] == [12, 12, 12, 10, 10]
    assert torch.equal(seen[3][1], seen[2][1])  # test with the means of the end
    assert torch.equal(seen[4][1], run.saved("best")["head.linear.weight"])


@pytest.mark.parametrize("number", [11, 14])
@pytest.mark.parametrize("method", METHODS)
def test_resumed_bit_equal(
    number: int,
    method: str,
    folder_of: FolderOf,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny.write_config(
        tmp_path / "c.yaml",
        folder_of("bert"),
        data,
        **METHODS[method],
        train={"lr": 0.01, "steps": 8, "batch_size": 4, "accumulate": 2, "average": 0.5},
    )
    tiny.trained(config, tmp_path / "whole")
    really, taken = trainer.fit.__globals__["train_batch"], 0

    def failing(*arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == number:
            raise Interrupted(2)
        return really(*arguments)

    with monkeypatch.context() as patch:
        patch.setitem(trainer.fit.__globals__, "train_batch", failing)
        with pytest.raises(Interrupted):
            tiny.trained(config, tmp_path / "cut")
    tiny.trained(config, tmp_path / "cut", resume=True)
    (one,), (other,) = ((tmp_path / name).glob("*") for name in ("whole", "cut"))
    assert read_checkpoint(one / "checkpoints", "last").part("average")
    assert_bit_equal(one, other)


def test_lanes_average_each_its_own(
    folder_of: FolderOf, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "CPU_ROWS", 64)
    trains = [{"average": 0.5}, {"average": 0.2, "eval_every": 5, "seed": 12}, {"accumulate": 2}]
    sections = [{"train": {"steps": 12, **train}} for train in trains]
    configs = laned.write(tmp_path / "configs", folder_of("bert"), data, *sections)
    alone, shared = (laned.sweep(configs, tmp_path / name, count) for name, count in
                     (("alone", 1), ("lanes", 3)))  # fmt: skip
    assert shared.watch.most == 3
    for run, lane in zip(alone.runs, shared.runs, strict=True):
        laned.assert_same(run, lane)
    assert [run.metrics["selection"].get("averaged_steps") is None for run in shared.runs] == [
        False,
        False,
        True,
    ]


def test_it_stops_early_and_diverges_as_without(config: Path, tmp_path: Path) -> None:
    sets = ("train.lr=1e-9", "train.early_stopping={patience: 1}")
    assert Watched(config, tmp_path, TAIL, *sets).metrics["status"] == "early_stopped"
    diverged = Watched(config, tmp_path, TAIL, "train.lr=1e30", "train.clip=null")
    assert diverged.metrics["status"] == "diverged"


def test_lanes_count_its_memory(config: Path, tmp_path: Path) -> None:
    on, off = tiny.opened(config, tmp_path, TAIL), tiny.opened(config, tmp_path)
    values = int(off.learner.counts()["trainable"])
    assert need_of(on).own - need_of(off).own == 4 * values


@pytest.mark.parametrize("value", ["0", "1.5", "-0.1"])
def test_a_share_is_a_share(value: str, config: Path) -> None:
    text = tiny.problems(config, f"train.average={value}")
    assert "train.average must be" in text


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
