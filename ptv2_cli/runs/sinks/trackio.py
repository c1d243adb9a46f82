"""`track: trackio`: a run of a Trackio project, on this machine or in a Space."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from pydantic import Field

from ptv2_cli.config.fields import Text
from ptv2_cli.runs.sinks.tracker import TrackedRun, Tracker, TrackerOptions, results


class Options(TrackerOptions):
    """Options of `track: {name: trackio, ...}`."""

    project: Text = Field("ptv2", description="project that gets the runs")
    space: Text | None = Field(
        None,
        description="Space that gets the runs, OWNER/NAME; default: a database on this machine",
    )

    @property
    def server(self) -> str | None:
        """The Space, or Trackio's own variables for a server."""
        names = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
        return self.space or next(filter(None, map(os.environ.get, names)), None)


class Trackio(Tracker):
    """Scores and config as a run of Trackio; trials of a sweep are one of its groups."""

    Options = Options
    name = "trackio"

    def quiet(self) -> AbstractContextManager[Any]:
        """Trackio says on stdout what it does."""
        return contextlib.redirect_stdout(io.StringIO())

    def load(self) -> None:
        """Import Trackio."""
        import trackio  # noqa: F401

    def open(self, known: TrackedRun | None) -> TrackedRun:
        """Make a run, or continue the one of this name."""
        import trackio

        self._run = trackio.init(
            self.options.project,
            name=self.run.directory.path.name,
            group=self.run.sweep or None,
            space_id=self.options.space,
            config=self.content(),
            resume="never" if known is None else "must",
            embed=False,
        )
        if known is None:
            return TrackedRun(str(self._run.id))
        # It writes in a thread of its own: a kill may have come between our note and its write.
        following = getattr(self._run, "_next_step", known.step + 1)
        return TrackedRun(known.id, following - 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curves."""
        self._run.log(dict(values), step=step)

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Add the results."""
        self.log(metrics["selection"]["step"] or 0, results(metrics))

    def end(self, *, finished: bool) -> None:
        """Wait until everything is written."""
        self._run.finish()
