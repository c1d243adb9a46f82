"""What a training process spends its time on, phase by phase, from its start to its end."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from pathlib import Path

BEGAN = "PHASES_BEGAN"
"""The variable with the time, in seconds of the epoch, at which the process was started."""


class Phases:
    """Adds up seconds of the clock and of the processor by phase.

    The first phase begins with the process, and every other one where the one before has ended.
    """

    def __init__(self) -> None:
        self.clock: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._last = (float(os.environ[BEGAN]), 0.0)

    def end(self, phase: str) -> None:
        """The time since the last call belongs to this phase."""
        now = (time.time(), time.process_time())
        self.clock[phase] += now[0] - self._last[0]
        self.cpu[phase] += now[1] - self._last[1]
        self._last = now

    def write(self, path: Path, **more: object) -> None:
        """Write all phases as JSON."""
        content = {"clock": self.clock, "cpu": self.cpu, **more}
        path.write_text(json.dumps(content), encoding="utf-8")
