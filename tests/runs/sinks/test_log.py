"""The lines of log.txt and of a terminal without a progress bar."""

from __future__ import annotations

import pytest

from ptv2_cli.runs.sinks.log import describe
from ptv2_cli.training.events import EvalDone


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            EvalDone(40, 2.0, {"accuracy": 0.625, "f1": 0.5}, 0.31, None, 0.701, {}, 0.693),
            "epoch 2, step 40: accuracy 62.5, train loss 0.693, validation 0.701, eval 0.3 s",
        ),
        (  # nothing has trained, and no row has a gold answer
            EvalDone(0, 0.0, {"accuracy": 0.5}, 0.31, None),
            "epoch 0, step 0: accuracy 50.0, eval 0.3 s",
        ),
    ],
)
def test_an_evaluation_says_its_losses_and_whose_seconds_they_are(
    event: EvalDone, line: str
) -> None:
    assert describe(event, "accuracy") == line
