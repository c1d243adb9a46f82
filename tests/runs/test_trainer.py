"""What a run does on its way: evaluations, stopping, divergence, what it writes."""

from __future__ import annotations

import json
import math
import signal
import threading
from pathlib import Path

import pytest
import tiny
import torch
from left_behind import read_checkpoint

from ptv2_cli.errors import CheckpointError, StoppedAtOnce
from ptv2_cli.runs.interrupts import Interrupts
from ptv2_cli.runs.training_record import TrainingRecord
from ptv2_cli.training.events import EvalDone, StepDone, Stopped


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny.write_rte(tmp_path_factory.mktemp("rte"))


@pytest.fixture
def config(folder_of, data, tmp_path) -> Path:
    return tiny.write_config(tmp_path / "run.yaml", folder_of("bert"), data)


def done(step: int, value: float, collapsed: str | None = None) -> EvalDone:
    return EvalDone(step, step / 6, {"accuracy": value}, 0.1, collapsed)


def record(mode: str = "max", patience: int | None = None) -> TrainingRecord:
    return TrainingRecord("accuracy", mode, patience)


def follow(which: TrainingRecord, *values: float) -> list[bool]:
    return [which.add(done(step, value), 0.1, {}) for step, value in enumerate(values, 1)]


def test_the_first_of_equal_evaluations_wins() -> None:
    which = record()
    assert follow(which, 0.5, 0.7, 0.7, 0.6, 0.7) == [True, True, False, False, False]
    assert (which.best["value"], which.best["step"]) == (0.7, 2)


def test_nan_never_wins() -> None:
    which = record()
    assert follow(which, math.nan, 0.1, math.nan) == [False, True, False]
    assert which.best["step"] == 2
    assert follow(record("min"), math.nan, 0.3, 0.2, math.nan) == [False, True, True, False]
    assert record().best is None


def test_patience_counts_evaluations_since_the_best() -> None:
    which = record(patience=2)
    seen = []
    for step, value in enumerate([0.5, 0.4, 0.6, 0.6, 0.1], 1):
        which.add(done(step, value), 0.1, {})
        seen.append(which.exhausted)
    assert seen == [False, False, False, False, True]


def test_the_collapse_warning_is_due_once() -> None:
    which = record()
    due = []
    for step, label in enumerate(["a", "a", None, "b", "b", "b", "b"], 1):
        which.add(done(step, 0.5, label), 0.1, {})
        due.append(which.newly_collapsed)
    assert due == [False, False, False, False, False, True, False]


def test_early_stopping(config, tmp_path) -> None:
    sets = ("train.epochs=30", "train.lr=1e-9", "train.early_stopping={patience: 2}")
    events: list = []
    _, metrics = tiny.trained(config, tmp_path, *sets, listen=events.append)
    assert metrics["status"] == "early_stopped"
    assert metrics["evaluations"] == 3
    assert metrics["selection"]["epoch"] == 1
    assert [e.reason for e in events if isinstance(e, Stopped)] == ["early_stopped"]
    _, again = tiny.trained(config, tmp_path, *sets, resume=True)
    assert again["status"] == "early_stopped"
    assert again["evaluations"] == 3


def test_steps_and_eval_every(config, folder_of, data, tmp_path) -> None:
    events: list = []
    train = {"steps": 10, "eval_every": 4, "batch_size": 4, "lr": 0.01}
    tiny.write_config(config, folder_of("bert"), data, train=train)
    _, metrics = tiny.trained(config, tmp_path, listen=events.append)
    assert [e.step for e in events if isinstance(e, EvalDone)] == [4, 8, 10]
    assert sum(isinstance(e, StepDone) for e in events) == 10
    assert metrics["evaluations"] == 3


def test_schedule_reaches_the_optimizer(config, tmp_path) -> None:
    tiny.trained(config, tmp_path, "train.lr=0.01", "train.epochs=2")
    lines = next(tmp_path.glob("*/history.jsonl")).read_text().splitlines()
    rates = [json.loads(line)["lr"] for line in lines]
    assert rates == pytest.approx([0.01 * 7 / 12, 0.01 * 1 / 12])  # of steps 6 and 12


def test_history_has_the_mean_loss_between_evaluations(config, tmp_path) -> None:
    losses: list[float] = []
    tiny.trained(
        config,
        tmp_path,
        listen=lambda e: losses.append(e.loss.item()) if isinstance(e, StepDone) else None,
    )
    lines = next(tmp_path.glob("*/history.jsonl")).read_text().splitlines()
    found = [json.loads(line)["train_loss"] for line in lines]
    assert found == pytest.approx([sum(losses[at : at + 6]) / 6 for at in (0, 6, 12)], rel=1e-5)


def breaking(session, at: int, what) -> None:
    """Call `what` before the forward pass of training step `at`."""
    passes = [0]

    def hook(module, args) -> None:
        passes[0] += module.training
        if passes[0] == at and module.training:
            what(module)

    session.learner.register_forward_pre_hook(hook)


def test_divergence_keeps_the_best_before_it(config, tmp_path) -> None:
    session = tiny.opened(config, tmp_path)

    def poison(learner) -> None:
        with torch.no_grad():
            learner.method.source.prompt.fill_(math.nan)

    breaking(session, 9, poison)
    metrics = tiny.train(session, resume=False)
    assert metrics["status"] == "diverged"
    assert metrics["evaluations"] == 1
    assert metrics["selection"]["step"] == 6
    assert metrics["final"] == {}
    assert any("no longer finite" in text for text in metrics["warnings"])
    best = read_checkpoint(session.resolved_run.directory.checkpoints, "best")
    assert all(value.isfinite().all() for value in best.tensors.values())
    json.loads(session.resolved_run.directory.metrics.read_text())


def test_divergence_before_the_first_evaluation(config, tmp_path) -> None:
    session = tiny.opened(config, tmp_path)

    def poison(learner) -> None:
        with torch.no_grad():
            learner.head.linear.weight.fill_(math.inf)

    breaking(session, 2, poison)
    metrics = tiny.train(session, resume=False)
    assert metrics["status"] == "diverged"
    assert metrics["evaluations"] == 0
    assert metrics["metrics"] == {}
    assert metrics["selection"]["value"] is None
    assert not (session.resolved_run.directory.checkpoints / "best.json").exists()


def test_weights_that_break_after_the_last_finite_loss_are_never_the_best(config, tmp_path) -> None:
    """The loss of the epoch's last step is finite, the update after it is not."""
    session = tiny.opened(config, tmp_path)

    def poison_gradients(learner) -> None:
        learner.method.source.prompt.register_hook(lambda grad: grad * math.nan)

    breaking(session, 6, poison_gradients)
    metrics = tiny.train(session, resume=False)
    assert metrics["status"] == "diverged"
    assert metrics["selection"]["value"] is None


def test_a_pooler_that_the_weights_lack_trains_and_is_saved(data, tmp_path) -> None:
    folder = tiny.save_model(tmp_path / "bare", "bert", pooler=False)
    config = tiny.write_config(tmp_path / "x.yaml", folder, data)
    session = tiny.opened(config, tmp_path / "runs")
    before = session.learner.backbone.pooler.dense.weight.clone()
    metrics = tiny.train(session, resume=False)
    pooler = 32 * 32 + 32
    assert metrics["parameters"]["trainable"] == 2 * 3 * 32 * 3 + (32 * 2 + 2) + pooler
    best = read_checkpoint(session.resolved_run.directory.checkpoints, "best").tensors
    assert not torch.equal(best["learner.backbone.pooler.dense.weight"], before)
    fresh = tiny.opened(config, tmp_path / "runs")
    fresh.load_best()
    assert fresh.evaluate("validation").scores.metrics == metrics["metrics"]["validation"]


def test_a_damaged_checkpoint_is_not_resumed_from(config, tmp_path) -> None:
    session, _ = tiny.trained(config, tmp_path, "train.epochs=1")
    tensors = next(session.resolved_run.directory.checkpoints.glob("last-*"))
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is truncated or altered"):
        tiny.trained(config, tmp_path, "train.epochs=1", resume=True)


def test_a_second_signal_interrupts_at_once() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.signum == signal.SIGINT
        with pytest.raises(StoppedAtOnce):
            signal.raise_signal(signal.SIGINT)


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def elsewhere() -> None:
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_bf16_run(config, tmp_path) -> None:
    session, metrics = tiny.trained(config, tmp_path, "train.precision=bf16")
    assert metrics["status"] == "finished"
    assert metrics["environment"]["dtype"] == "bf16"
    last = read_checkpoint(session.resolved_run.directory.checkpoints, "last")
    learned = [v for k, v in last.tensors.items() if k.startswith("learner.")]
    assert {value.dtype for value in learned} == {torch.float32}


def test_fp16_run_saves_its_scaler(config, tmp_path) -> None:
    session, metrics = tiny.trained(config, tmp_path, "train.precision=fp16")
    assert metrics["status"] == "finished"
    last = read_checkpoint(session.resolved_run.directory.checkpoints, "last")
    assert last.state["scaler"]["scale"] > 0
    again, _ = tiny.trained(config, tmp_path, "train.precision=fp16", resume=True)
    assert again.resolved_run.directory.path == session.resolved_run.directory.path


# Prompt tuning trains on the right tokens: the word tells the tag, the name is the answer.


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """A BERT of small weights, in whose states a linear head can still tell the words."""
    return tiny.save_model(tmp_path_factory.mktemp("calm"), "bert", initializer_range=0.03)


@pytest.mark.parametrize(
    ("task", "write", "epochs", "metric"),
    [
        ("ner/conll2003", tiny.write_ner, 12, "f1"),
        ("qa/squad", tiny.write_squad, 10, "exact_match"),
    ],
)
@pytest.mark.parametrize("place", ["before_cls", "after_cls"])
def test_prompt_tuning_reads_the_right_tokens(
    task, write, epochs, metric, place, calm, tmp_path
) -> None:
    config = tiny.write_config(
        tmp_path / "config.yaml",
        calm,
        write(tmp_path / "data"),
        method={"name": "prompt_tuning", "place": place},
        task={"name": task, "data": str(tmp_path / "data"), "max_len": 24},
        train={"lr": 0.05, "epochs": epochs, "batch_size": 8},
    )
    _, metrics = tiny.trained(config, tmp_path / "runs", "backbone.dropout=off")
    assert metrics["metrics"]["validation"][metric] > 0.95


@pytest.mark.parametrize("encoder", ["lstm", "mlp"])
def test_ptuning_v1_reads_its_mask(encoder, folder_of, data, tmp_path) -> None:
    template = "{p:2} {premise} {p:1} {hypothesis} {mask}"
    config = tiny.write_config(
        tmp_path / "v1.yaml",
        folder_of("bert"),
        data,
        method={"name": "ptuning_v1", "template": template, "encoder": encoder},
        prompt_len=None,
    )
    session, metrics = tiny.trained(config, tmp_path / "runs")
    assert metrics["prompt_len"] == 3
    assert metrics["parameters"]["prompt"] == 3 * 32
    feature = session.data.features("train")[0]
    assert sorted(slot for slot in feature.slots if slot >= 0) == [0, 1, 2]
    assert feature.input_ids[feature.mask_at] == 4  # [MASK]


def test_word_tells_the_class_for_every_method(calm, data, tmp_path) -> None:
    """A head on a mean over the text learns the easy set whatever the method."""
    template = "{p:3} {premise} {hypothesis}"
    for method, length, lr in (
        ("ptuning_v2", 3, 0.03),
        ("prompt_tuning", 3, 0.03),
        ({"name": "ptuning_v1", "template": template}, 3, 0.003),
        ("head_only", None, 0.03),
        ("finetune", None, 1e-3),
    ):
        config = tiny.write_config(
            tmp_path / "config.yaml",
            calm,
            data,
            method=method,
            prompt_len=length,
            head={"pooling": "mean"},
            train={"lr": lr, "epochs": 14, "batch_size": 8},
        )
        _, metrics = tiny.trained(config, tmp_path / "runs", "backbone.dropout=off")
        assert metrics["metrics"]["validation"]["accuracy"] > 0.8, method
