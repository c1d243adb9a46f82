"""The loop by itself: accumulation, clipping, divergence, precision, when it evaluates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tiny
import torch

from ptv2_cli.inputs.features import Feature
from ptv2_cli.learner import Learner
from ptv2_cli.multiplex import Sharing
from ptv2_cli.training.batches import BatchPlan
from ptv2_cli.training.events import EvalDone, Event, StepDone, Stopped
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import fit
from ptv2_cli.training.optim import LearningRates, build_optimizer, build_schedule


def features(count: int = 8, kind: str = "sequence") -> list[Feature]:
    source = torch.Generator().manual_seed(0)
    made = []
    for row in range(count):
        ids = torch.randint(5, 40, (3 + row % 5,), generator=source).tolist()
        tags = [-100 if at == 0 else (row + at) % 3 for at in range(len(ids))]
        label = row % 3 if kind == "sequence" else tags
        made.append(Feature(row=row, input_ids=ids, label=label))
    return made


def make_lane(
    learner: Learner,
    size: int,
    steps: int,
    accumulate: int = 1,
    rows: int = 8,
    kind: str = "sequence",
    **fields: Any,
) -> Lane:
    batches = BatchPlan(features(rows, kind), size, accumulate, 3, pad_id=0, kind=kind)
    optimizer = build_optimizer(learner, LearningRates(0.1, 0.1, 0.1), 0.0)
    fields = {"eval_every": 1000, "device": tiny.CPU, **fields}
    schedule = build_schedule("constant", 99, 0.0, 9)
    return Lane(learner, batches, optimizer, schedule, steps, **fields)


def evaluation() -> EvalDone:
    return EvalDone(0, 0.0, {"accuracy": 0.5}, 0.0, None)


def alone(lane: Lane, evaluate: Callable[[], EvalDone] = evaluation) -> Iterator[Event]:
    """The events of one lane by itself."""
    for events in fit([lane], Sharing(), lambda lanes: [evaluate() for _ in lanes]):
        for at, event in events:
            assert at is lane
            yield event


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_accumulating_equals_one_large_batch(kind, folder_of, monkeypatch) -> None:
    gradients: list[list[torch.Tensor]] = []
    losses = []
    for size, accumulate in ((8, 1), (4, 2), (3, 3)):
        learner = tiny.make_learner(tiny.load(folder_of("bert")), kind=kind)
        made = make_lane(learner, size, 1, accumulate, kind=kind)
        own = list(learner.own_parameters("method")) + list(learner.own_parameters("head"))
        seen: list[torch.Tensor] = []
        monkeypatch.setattr(
            made.optimizer, "step", lambda seen=seen, own=own: seen.extend(p.grad for p in own)
        )
        first = next(event for event in alone(made) if isinstance(event, StepDone))
        losses.append(first.loss)
        gradients.append(seen)
        assert first.rows == 8
    for loss, found in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(loss, losses[0])
        for a, b in zip(found, gradients[0], strict=True):
            torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-4)


def test_clip_limits_the_norm_of_all_gradients_together(folder_of, monkeypatch) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")))
    made = make_lane(learner, 8, 1)
    norms = []

    def note() -> None:
        every = [p.grad.flatten() for g in made.optimizer.param_groups for p in g["params"]]
        norms.append(torch.cat(every).norm().item())

    monkeypatch.setattr(made.optimizer, "step", note)
    list(alone(made))
    made.step, made.evaluated, made.clip = 0, -1, norms[0] / 3
    list(alone(made))
    assert norms[1] == pytest.approx(norms[0] / 3, rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "every", "expected"), [(6, 2, [2, 4, 6]), (7, 3, [3, 6, 7]), (2, 9, [2])]
)
def test_evaluates_every_so_many_steps_and_at_the_end(steps, every, expected, folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")))
    made = make_lane(learner, 4, steps, eval_every=every)
    modes = []

    def evaluate() -> EvalDone:
        modes.append(made.step)
        made.learner.eval()
        return evaluation()

    events = []
    for event in alone(made, evaluate):
        events.append(event)
        # An evaluation leaves the learner in the other mode, in which nothing must train.
        assert made.learner.training is made.learner.backbone.model.training
        assert made.learner.training is isinstance(event, StepDone)
    assert modes == expected
    assert [e.step for e in events if isinstance(e, StepDone)] == list(range(1, steps + 1))
    assert isinstance(events[-1], Stopped)
    assert events[-1].reason == "finished"


def test_a_loss_that_is_not_finite_ends_the_run_unevaluated(folder_of, monkeypatch) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")))
    events = []
    for event in alone(make_lane(learner, 4, 6, eval_every=3)):
        events.append(event)
        if isinstance(event, StepDone) and event.step == 2:
            with torch.no_grad():
                learner.method.source.prompt.fill_(float("nan"))
    assert [type(event) for event in events] == [StepDone, StepDone, StepDone, Stopped]
    assert events[-1].reason == "diverged"
    assert events[-1].detail["step"] == 3


def test_epochs_take_their_own_batches(folder_of) -> None:
    made = make_lane(tiny.make_learner(tiny.load(folder_of("bert"))), 4, 6, rows=12)
    events = [event for event in alone(made) if isinstance(event, StepDone)]
    assert [event.epoch for event in events] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert sum(event.rows for event in events[:3]) == 12
    sizes = [[len(b) for g in made.batches.groups(e) for b in g] for e in range(2)]
    assert [event.rows for event in events] == [size for epoch in sizes for size in epoch]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_and_keeps_parameters_fp32(precision, folder_of) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert")))
    seen = set()
    dense = learner.backbone.model.encoder.layer[0].output.dense
    dense.register_forward_hook(lambda *call: seen.add(call[2].dtype))
    made = make_lane(learner, 4, 36, rows=24, precision=precision)
    if precision == "fp16":
        made.scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    before = {name: value.clone() for name, value in learner.own_state().items()}
    events = list(alone(made))
    losses = [event.loss.item() for event in events if isinstance(event, StepDone)]
    assert seen == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    for name, value in learner.own_state().items():
        assert value.dtype == torch.float32
        assert not torch.equal(value, before[name])
    assert all(event.loss.dtype == torch.float32 for event in events if isinstance(event, StepDone))


def test_gradients_are_clipped_without_the_scale_of_fp16(folder_of) -> None:
    """Norms of what the optimizer has seen: its first moment is a tenth of the gradient."""
    norms = []
    for scaler in (
        torch.amp.GradScaler("cpu", enabled=False),
        torch.amp.GradScaler("cpu", enabled=True, init_scale=2.0**14),
    ):
        learner = tiny.make_learner(tiny.load(folder_of("bert")))
        made = make_lane(learner, 4, 1, clip=0.01, scaler=scaler)
        list(alone(made))
        moments = [state["exp_avg"] for state in made.optimizer.state.values()]
        norms.append(float(torch.cat([moment.flatten() for moment in moments]).norm()) / 0.1)
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)


def test_each_batch_of_each_step_has_dropout_draws_of_its_own(folder_of: Any) -> None:
    learner = tiny.make_learner(tiny.load(folder_of("bert"), dropout=0.1))
    lane = make_lane(learner, 2, 2, accumulate=2, dropout_seed=5)
    seen = []
    forward = learner.backbone.forward

    def record(batch: Any, *rest: Any) -> Any:
        seen.append(batch.draws)
        return forward(batch, *rest)

    learner.backbone.forward = record  # type: ignore[method-assign]
    for _ in fit([lane], Sharing(), lambda due: [evaluation() for one in due]):
        pass
    keys = [(own.seed, own.step, own.batch) for (own,) in seen if own is not None]
    assert keys == [(5, 0, 0), (5, 0, 1), (5, 1, 0), (5, 1, 1)]
    assert {own.rows for (own,) in seen} == {2}
