"""How many trials at once: as many as memory takes and as still raise the throughput."""

from __future__ import annotations

from collections.abc import Sequence

from ptv2_cli.sweep.lane_count import Lanes
from ptv2_cli.sweep.opening import Opener
from ptv2_cli.sweep.trials import Trial


def places_for(group: Sequence[Trial], lanes: Lanes, opener: Opener) -> int:
    """The number of trials of a group that share its backbone at once."""
    return 1 if lanes == 1 or len(group) == 1 else len(group) if lanes == "auto" else lanes
