"""How many trials at once: as many as memory takes and as still raise the throughput."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from ptv2_cli.errors import ConfigError, InputError, out_of_memory
from ptv2_cli.multiplex import Sharing
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.session import Session
from ptv2_cli.runs.trainer import rows_of_a_pass
from ptv2_cli.sweeps.compatibility import groups
from ptv2_cli.sweeps.lane_count import FLAG, Lanes
from ptv2_cli.sweeps.memory_estimate import Need, free_bytes, largest, need_of
from ptv2_cli.sweeps.session_pool import Opener
from ptv2_cli.sweeps.trials import Trial
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import train_batch

GAIN = 1.1
"""Least factor on the throughput for which more lanes are worth their memory."""
STEPS = 3
"""Steps that are timed for every number of lanes, after one that warms up."""
KINDS = 4
"""Most trials of a group whose memory is measured: those of the largest batches and prompts."""


@dataclass(frozen=True)
class Group:
    """Trials that share one backbone, so many at once."""

    trials: tuple[Trial, ...]
    places: int = 1
    faster: float | None = None
    """Throughput against that of one trial after another, where it was measured."""


def grouped(
    trials: Sequence[Trial], lanes: Lanes, opener: Opener, where: str = FLAG
) -> list[Group]:
    """The trials in groups, each with the number that share its backbone at once.

    Args:
        trials: what is left to train.
        lanes: that number; auto: as many as fit into memory and raise the throughput.
        opener: opens some of them, to measure.
        where: the flag or the line that says the number.

    Raises:
        ConfigError: more lanes than memory takes; it says how many fit.
    """
    if lanes == 1:
        return [Group((trial,)) for trial in trials]
    return [_sized(group, lanes, opener, where) for group in groups(trials)]


def _sized(group: Sequence[Trial], lanes: Lanes, opener: Opener, where: str) -> Group:
    resolved_runs = [trial.resolved_run for trial in group if trial.resolved_run is not None]
    if len(resolved_runs) < 2:
        return Group(tuple(group))
    devices = [opener.device] if opener.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _Rehearsal(opener, resolved_runs) as rehearsal:
        need = rehearsal.need()
        if need is None:  # no trial can begin; each says why when its turn comes
            return Group(tuple(group))
        free = free_bytes(opener.device)
        fit = need.fits(free, opener.device)
        if lanes == "auto":
            return Group(tuple(group), *rehearsal.fastest(_doubled(min(fit, len(resolved_runs)))))
        places = min(lanes, len(resolved_runs))
        if places > fit:
            raise _too_many(places, fit, need.total(places, opener.device), free or 0, where)
    return Group(tuple(group), places)


def _doubled(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    numbers = [1]
    while numbers[-1] < most:
        numbers.append(min(most, 2 * numbers[-1]))
    return numbers


class _Rehearsal:
    """Some trials of a group opened to measure them; nothing of it is kept."""

    def __init__(self, opener: Opener, resolved_runs: Sequence[ResolvedRun]) -> None:
        self._opener = opener
        self._resolved_runs = resolved_runs
        self._opened: dict[str, Session | None] = {}

    def __enter__(self) -> _Rehearsal:
        return self

    def __exit__(self, *error: object) -> None:
        for resolved_run in self._resolved_runs:
            if resolved_run.fingerprint in self._opened:
                self._opener.close(resolved_run)
        self._opened.clear()

    def need(self) -> Need | None:
        """What the largest of the trials take; None where none of them can begin."""

        def size(resolved_run: ResolvedRun) -> tuple[int, int]:
            config = resolved_run.resolved.config
            return config.train.batch_size, config.prompt_len or 0

        largest_first = sorted(self._resolved_runs, key=size, reverse=True)[:KINDS]
        sessions = [self._session(resolved_run) for resolved_run in largest_first]
        needs = [need_of(session) for session in sessions if session is not None]
        return largest(needs) if needs else None

    def fastest(self, numbers: Sequence[int]) -> tuple[int, float]:
        """The number of lanes up to which each is faster by a factor of GAIN than the one before.

        Also how much faster it is than one lane. Where memory gives out it is the number before.
        """
        rates: list[float] = []
        for number in numbers:
            try:
                lanes = self._lanes(number)
                if len(lanes) < number:
                    break
                rates.append(_rate(lanes))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                break
            if len(rates) > 1 and rates[-1] < GAIN * rates[-2]:
                rates.pop()
                break
        return (numbers[len(rates) - 1], rates[-1] / rates[0]) if rates else (1, 1.0)

    def _lanes(self, number: int) -> list[Lane]:
        """So many lanes at their first step; fewer where fewer can begin."""
        lanes: list[Lane] = []
        for resolved_run in self._resolved_runs:
            session = self._session(resolved_run) if len(lanes) < number else None
            if session is not None:
                lanes.append(session.new_lane())
        return lanes

    def _session(self, resolved_run: ResolvedRun) -> Session | None:
        mark = resolved_run.fingerprint
        if mark not in self._opened:
            self._opened[mark] = None
            with suppress(InputError):  # the trial will say so itself
                self._opened[mark] = self._opener.open(resolved_run)
        return self._opened[mark]


def _rate(lanes: Sequence[Lane]) -> float:
    """Rows a second of some steps, the first ones of every lane."""
    sharing = Sharing(rows_of_a_pass(lanes[0].device))
    passes = max(lane.batches.accumulate for lane in lanes)
    rows, began = 0, 0.0
    for at in range((STEPS + 1) * passes):
        if at == passes:
            began = time.perf_counter()
        for _, done in train_batch(lanes, sharing):
            float(done.loss)  # waits for the device
            rows += done.rows if at >= passes else 0
    return rows / (time.perf_counter() - began)


def _too_many(lanes: int, fit: int, taken: int, free: int, where: str) -> ConfigError:
    return ConfigError.at(
        where,
        f"{lanes} lanes would take about {taken / 2**30:.1f} GiB beside the backbone, and "
        f"{free / 2**30:.1f} GiB are free: {fit} fit",
        f"{FLAG} {fit}, or {FLAG} auto; a smaller train.batch_size with train.accumulate takes "
        "less",
    )
