"""Commands in several processes that train one run: rank 0 prints, the others keep quiet."""

from __future__ import annotations

import os
import time

from ptv2_cli.cli import console
from ptv2_cli.distributed.rank import LAUNCHED, Rank, rank_of_process
from ptv2_cli.errors import ConfigError, InputError, Interrupted, RankEnded

SAME_SECONDS = 60.0
"""How long another process waits for rank 0 to say what is wrong with their input."""
_other = False
"""Whether this process is another one than rank 0."""
_joined = False
"""Whether this process has met the others: from then on it may fail where rank 0 does not."""


def begin(command: str | None) -> None:
    """Keep a process other than rank 0 from printing.

    Raises:
        ConfigError: several processes were started for a command that works in one.
    """
    global _other
    rank = rank_of_process()
    if rank is None:
        return
    if rank.number:
        _other = True
        console.mute(f"rank {rank.number}")
    if command != "train":
        raise ConfigError.at(
            f"ptv2 {command}",
            f"works in one process, and {rank.size} were started",
            "start it without torchrun; ptv2 train alone trains one run in several processes",
        )


def joined() -> None:
    """Note that this process has met the others."""
    global _joined
    _joined = True


def tell(error: BaseException) -> None:
    """Let this process print an error, unless rank 0 prints the same or another rank its own."""
    if isinstance(error, InputError) and not _joined:
        after_rank_0()
    elif not isinstance(error, Interrupted | RankEnded):
        console.unmute()


def after_rank_0() -> None:
    """Leave it to rank 0 to print what is wrong with the input, which all processes read.

    torchrun ends all processes with the first of them, which must be rank 0. Where that does not
    come, on its machine there is nothing wrong: then this process prints its error.
    """
    if _other and not os.environ.get(LAUNCHED):
        time.sleep(SAME_SECONDS)
        console.unmute()


def check_devices(devices: int | None, rank: Rank | None, rows: int | None, where: str) -> int:
    """How many processes train the run.

    Args:
        devices: what `--devices` says.
        rank: of this process, if it is one of several.
        rows: of a batch; None: it varies.
        where: which line says so.

    Raises:
        ConfigError: the processes are not so many, or a batch has too few rows for them.
    """
    if rank is not None and devices not in (None, rank.size):
        what = f"{devices} devices, and torchrun started {rank.size} processes"
        raise ConfigError.at("--devices", what, "leave --devices out, torchrun says it")
    count = devices or (1 if rank is None else rank.size)
    if rows is not None and rows < count:
        what = f"train.batch_size {rows} has no row for each of {count} devices"
        hint = f"--devices {rows}, or --batch-size {count}"
        raise ConfigError.at(where, what, hint)
    return count
