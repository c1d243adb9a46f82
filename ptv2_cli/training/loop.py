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
    """Train lanes to the last steps of their plans, yielding what happened, lane by lane.

    A lane that has stopped is taken off the list; whoever consumes the events may take off others,
    to stop them early, and add new ones, all of one device and precision. Saving, logging,
    progress and early stopping belong to the consumer. The order of a lane's draws follows from
    its own progress alone, so one that is given a saved state goes on as if it had never stopped.
    """
    while lanes:
        ended = [(lane, end) for lane in lanes if (end := lane.end()) is not None]
        due = [lane for lane in lanes if lane.due]
        if ended:
            for lane, _ in ended:
                lanes.remove(lane)
            yield list(ended)
        elif due:
            scored = list(zip(due, evaluate(due), strict=True))
            for lane in due:
                lane.training.progress.evaluated = lane.training.progress.step
            yield list(scored)
        else:
            if stepped := advance(lanes, sharing):
                yield list(stepped)


def advance(lanes: Sequence[Lane], sharing: Sharing) -> list[tuple[Lane, StepDone]]:
    """One batch of every lane forward and backward, in as few passes as they fit into.

    Returns the lanes whose steps are whole with it, and what they did.
    """
    learners = [lane.training.learner for lane in lanes]
    for learner in learners:  # an evaluation leaves what it used in the other mode
        if not (learner.training and learner.backbone.model.training):
            learner.train()
    batches = [lane.next() for lane in lanes]
    plan = lanes[0].plan
    for places in sharing.passes(learners, [len(batch.input_ids) for batch in batches]):
        parts = [batches[at] for at in places]
        with autocast(plan.precision, plan.device):
            outputs = sharing.answer([learners[at] for at in places], parts)
        takers = zip([lanes[at] for at in places], parts, outputs, strict=True)
        # No lane's parameters are in another's loss: one pass backward serves all.
        torch.autograd.backward([lane.take(part, output) for lane, part, output in takers])
    return [(lane, done) for lane in lanes if (done := lane.close()) is not None]
