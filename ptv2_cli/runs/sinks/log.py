"""Events as lines of text: log.txt, and the terminal where there is no progress bar."""

from __future__ import annotations

import time
from pathlib import Path

from ptv2_cli.files import no_link
from ptv2_cli.safe_text import visible
from ptv2_cli.training.events import EvalDone, RateFound, RunEvent, Started, Stopped, Warned

REASONS = {
    "finished": "finished",
    "early_stopped": "stopped early",
    "diverged": "diverged: the loss is no longer finite",
    "pruned": "pruned: saved and set aside, because other settings do better",
}


def describe(event: RunEvent, metric: str = "") -> str | None:
    """One line for events that people want to read, None for the others."""
    if isinstance(event, Started):
        begin = f"resumed at step {event.resumed_at} of" if event.resumed_at else "training for"
        steps = "1 step" if event.steps == 1 else f"{event.steps} steps"
        return f"{begin} {steps}: {event.directory}"
    if isinstance(event, RateFound):
        low, high = event.tried
        return (
            f"learning rate {event.rate:.3g}, after a range test of {event.steps} steps from "
            f"{low:.1e} to {high:.1e} in {event.seconds:.1f} s"
        )
    if isinstance(event, EvalDone):
        scores = {metric: event.scores[metric]} if metric in event.scores else event.scores
        shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
        where = f"epoch {event.epoch:.4g}, step {event.step}"
        return f"{where}: {shown}{_losses(event)}, eval {event.seconds:.1f} s"
    if isinstance(event, Warned):
        return f"warning: {event.text}"
    if isinstance(event, Stopped):
        return REASONS[event.reason] + _waited(event.detail.get("patience"))
    return None


def _losses(event: EvalDone) -> str:
    found = {"train loss": event.train_loss, "validation": event.loss}
    return "".join(f", {name} {value:.3g}" for name, value in found.items() if value is not None)


def _waited(patience: int | None) -> str:
    """How long a run that stopped early had waited for a better score."""
    if patience is None:
        return ""
    passed = "evaluation" if patience == 1 else f"{patience} evaluations"
    return f": no better score in the last {passed}"


class LogFile:
    """The sink that appends a line for each event to the run's log.txt."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a", encoding="utf-8", buffering=1, opener=no_link)  # noqa: SIM115

    def on(self, event: RunEvent) -> None:
        """Write the event's line."""
        line = describe(event)
        if line is not None:
            self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {visible(line)}\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
