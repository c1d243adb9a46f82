"""`track: wandb`: a run of Weights & Biases, sent to its server or kept for `wandb sync`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from ptv2_cli.config.fields import Text
from ptv2_cli.runs.sinks.tracker import TrackedRun, Tracker, TrackerOptions, results
from ptv2_cli.runs.sinks.worker import LIMIT


class Options(TrackerOptions):
    """Options of `track: {name: wandb, ...}`."""

    project: Text = Field("ptv2", description="project that gets the runs")
    entity: Text | None = Field(None, description="user or team; default: that of the login")
    mode: Literal["online", "offline"] | None = Field(
        None,
        description="offline: write files that wandb sync sends later; default: WANDB_MODE, else "
        "online",
    )

    @property
    def server(self) -> str | None:
        """Where the run is sent, unless it stays offline."""
        if (self.mode or os.environ.get("WANDB_MODE") or "online") != "online":
            return None
        return os.environ.get("WANDB_BASE_URL", "the server of Weights & Biases")


class WandB(Tracker):
    """Scores and config as a run of Weights & Biases; trials of a sweep are one of its groups."""

    Options = Options
    name = "wandb"

    def load(self) -> None:
        """Import W&B."""
        import wandb  # noqa: F401

    def open(self, known: TrackedRun | None) -> TrackedRun:
        """Make a run, or continue one."""
        import wandb

        if self.options.server is not None and not wandb.login(prompt=False):
            raise PermissionError("no API key: wandb login keeps one, or set WANDB_API_KEY")
        self._run = wandb.init(
            entity=self.options.entity,
            project=self.options.project,
            dir=str(self.run.directory.path),
            id=None if known is None else known.id,
            name=self.run.directory.path.name,
            config=self.content(),
            group=self.run.sweep or None,
            mode=self.options.mode,
            resume=None if known is None else "allow",
            reinit="create_new",  # lanes are several runs of one process
            settings=wandb.Settings(silent=True, console="off", init_timeout=LIMIT),
        )
        return known or TrackedRun(str(self._run.id))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves."""
        self._run.log(dict(values), step=step)

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Add the results to the run's summary."""
        self._run.summary.update({**results(metrics), "status": metrics["status"]})

    def end(self, *, finished: bool) -> None:
        """Wait until everything is written or sent."""
        self._run.finish(exit_code=0 if finished else 1)
