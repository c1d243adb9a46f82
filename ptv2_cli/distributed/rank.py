"""Which of several processes this one is, by the variables that torchrun sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ptv2_cli.errors import ConfigError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets for each process; all of them are needed."""
LAUNCHED = "PTV2_LAUNCHED"
"""Set in processes whose standard input is open as long as the launcher lives."""


@dataclass(frozen=True)
class Rank:
    """The number of a process among those that train one run together."""

    number: int
    """0 to `size` - 1; rank 0 writes the run directory."""
    size: int
    local: int
    """Its number among the processes of its machine, from 0."""
    local_size: int
    """Processes on its machine."""


def rank_of_process(environment: Mapping[str, str] = os.environ) -> Rank | None:
    """The rank of this process; None if it works alone.

    Raises:
        ConfigError: a variable is no number, or the rank does not exist.
    """
    if not all(environment.get(name) for name in VARIABLES):
        return None
    number, size, local = (_number(environment, name) for name in VARIABLES[:3])
    local_size = _number(environment, "LOCAL_WORLD_SIZE", default=size)
    if not (number < size and local < local_size <= size):
        raise ConfigError.at(
            "RANK",
            f"there is no rank {number} of {size} processes, {local} of {local_size} on a machine",
            "start the processes with torchrun, or with ptv2 train --devices N",
        )
    return None if size == 1 else Rank(number, size, local, local_size)


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        hint = "start the processes with torchrun, or with ptv2 train --devices N"
        raise ConfigError.at(name, f"{text!r} is no number of a process", hint)
    return int(text)
