"""The training loop: forward, backward, clip, step, schedule; evaluate when due."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch

from ptv2_cli.multiplex import Sharing
from ptv2_cli.training.events import EvalDone, Event, StepDone
from ptv2_cli.training.lane import Lane, Precision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Evaluate = Callable[[Sequence[Lane]], Iterable[EvalDone]]
"""Scores lanes whose evaluations are due, in their order."""


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision for activations; parameters that train stay fp32."""
    return torch.autocast(
        device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES, cache_enabled=True
    )


def fit(
    lanes: list[Lane], sharing: Sharing, evaluate: Evaluate
) -> Iterator[list[tuple[Lane, Event]]]:
    """Train lanes to their last steps, yielding what happened, lane by lane.

    A lane that has stopped is taken off the list; whoever consumes the events may take off others,
    to stop them early, and add new ones, all of one device and precision. Saving, logging,
    progress and early stopping belong to the consumer. The order of a lane's draws follows from
    its own position alone, so one that is given a saved state goes on as if it had never stopped.
    """
    while lanes:
        ended = [(lane, end) for lane in lanes if (end := lane.end()) is not None]
        due = [lane for lane in lanes if lane.evaluation_due]
        if ended:
            for lane, _ in ended:
                lanes.remove(lane)
            yield list(ended)
        elif due:
            scored = list(zip(due, evaluate(due), strict=True))
            for lane in due:
                lane.evaluated = lane.step
            yield list(scored)
        elif stepped := train_batch(lanes, sharing):
            yield list(stepped)


def train_batch(lanes: Sequence[Lane], sharing: Sharing) -> list[tuple[Lane, StepDone]]:
    """Take the next batch of every lane, and the optimizer step of those whose step it completes.

    Forward and backward passes are as few as the batches fit into.
    """
    learners = [lane.learner for lane in lanes]
    for learner in learners:  # an evaluation leaves what it used in the other mode
        if not (learner.training and learner.backbone.model.training):
            learner.train()
    batches = [lane.next_batch() for lane in lanes]
    for group in sharing.passes(learners, [len(batch.input_ids) for batch in batches]):
        with autocast(lanes[0].precision, lanes[0].device):
            outputs = sharing.forward([learners[at] for at in group], [batches[at] for at in group])
        losses = [
            lanes[at].loss(batches[at], output) for at, output in zip(group, outputs, strict=True)
        ]
        torch.autograd.backward(losses)  # no lane's parameters are in another's loss
    complete = [lane for lane in lanes if lane.batch_done()]
    if complete:  # all lanes have the same processes
        complete[0].group.sum([tensor for lane in complete for tensor in lane.shared_sums()])
    stepped = []
    for lane in complete:
        lane.clip_gradients()
        lane.set_learning_rates()
        stepped.append((lane, lane.take_step()))
    return stepped
