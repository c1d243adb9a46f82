"""A tracker, `track: {name: phases, file: FILE}`: writes the phases of a run to a file."""

from __future__ import annotations

from pathlib import Path

from phases import Phases
from pydantic import Field

from ptv2_cli.config.section import Section
from ptv2_cli.registry import TRACKERS
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.training.events import (
    EvalDone,
    Finished,
    RunEvent,
    Saved,
    Started,
    StepDone,
    Stopped,
    Ticked,
)


class Options(Section):
    """Open keys of the section."""

    file: str = Field(description="JSON file to write")


class PhasesTracker:
    """An event ends the phase that led to it; what no event ends belongs to the next phase."""

    Options = Options

    def __init__(self, run: ResolvedRun, options: Options) -> None:
        self.path = Path(options.file)
        self.phases = Phases()
        self.stopped = False

    def on(self, event: RunEvent) -> None:
        """Take an event of the run."""
        match event:
            case Started():
                self.phases.end("start")
            case StepDone():
                self.phases.end("steps")
            case Ticked() | EvalDone():
                self.phases.end("last evaluation" if self.stopped else "evaluation")
            case Saved():
                self.phases.end("saving")
            case Stopped():
                self.stopped = True
            case Finished(metrics):
                self.phases.end("end")
                self.phases.write(self.path, score=metrics["selection"]["value"])

    def close(self) -> None:
        """Nothing stays open between events."""


TRACKERS.add("phases", PhasesTracker)
