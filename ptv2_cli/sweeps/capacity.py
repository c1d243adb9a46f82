"""How many runs train at once: as many as fit into memory and still raise the throughput."""

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
from ptv2_cli.sweeps.compatibility import groups, require_one_group
from ptv2_cli.sweeps.memory_estimate import Need, free_bytes, largest, need_of
from ptv2_cli.sweeps.options import LANES, LaneRequest
from ptv2_cli.sweeps.session_pool import SessionPool
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import train_batch

GAIN = 1.1
"""More lanes must raise the throughput by this factor at least."""
STEPS = 3
"""Steps that are timed for each number of lanes, after a first one that warms up."""
KINDS = 4
"""Most runs of a group whose memory is measured: those with the largest batches and prompts."""


@dataclass(frozen=True)
class LaneGroup:
    """Runs that share one backbone."""

    runs: tuple[ResolvedRun, ...]
    lanes: int = 1
    """How many of them train at once."""
    speedup: float | None = None
    """Throughput over that of one run after another; None where it was not measured."""


def lane_groups(
    runs: Sequence[ResolvedRun], request: LaneRequest, pool: SessionPool
) -> list[LaneGroup]:
    """The runs in groups that share a backbone, each with its number of lanes.

    Args:
        runs: what is left to train.
        request: the number of lanes; auto: as many as fit into memory and raise the throughput.
        pool: opens some of the runs, to measure them.

    Raises:
        ConfigError: the runs cannot share a backbone, or memory takes fewer lanes; it says how
            many fit.
    """
    if request.count == 1:
        return [LaneGroup((run,)) for run in runs]
    if request.count != "auto":
        require_one_group(runs, request)
    return [_sized(group, request, pool) for group in groups(runs)]


def _sized(runs: Sequence[ResolvedRun], request: LaneRequest, pool: SessionPool) -> LaneGroup:
    if len(runs) < 2:
        return LaneGroup(tuple(runs))
    devices = [pool.device] if pool.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _Measurement(pool, runs) as measurement:
        need = measurement.need()
        if need is None:  # no run can start; each says why when its turn comes
            return LaneGroup(tuple(runs))
        free = free_bytes(pool.device)
        fit = need.fits(free, pool.device)
        if request.count == "auto":
            numbers = _doubled(min(fit, len(runs)))
            return LaneGroup(tuple(runs), *measurement.fastest(numbers))
        lanes = min(request.count, len(runs))
        if lanes > fit:
            taken = need.total(lanes, pool.device)
            raise _too_many(lanes, fit, taken, free or 0, request.where)
    return LaneGroup(tuple(runs), lanes)


def _doubled(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    numbers = [1]
    while numbers[-1] < most:
        numbers.append(min(most, 2 * numbers[-1]))
    return numbers


class _Measurement:
    """Opens some runs of a group to measure them; keeps nothing of it."""

    def __init__(self, pool: SessionPool, resolved_runs: Sequence[ResolvedRun]) -> None:
        self._pool = pool
        self._resolved_runs = resolved_runs
        self._opened: dict[str, Session | None] = {}

    def __enter__(self) -> _Measurement:
        return self

    def __exit__(self, *error: object) -> None:
        for resolved_run in self._resolved_runs:
            if resolved_run.fingerprint in self._opened:
                self._pool.close(resolved_run)
        self._opened.clear()

    def need(self) -> Need | None:
        """What the largest of the runs need; None where none of them can start."""

        def size(resolved_run: ResolvedRun) -> tuple[int, int, int]:
            config = resolved_run.resolved.config
            train = config.train
            return train.batch_tokens or 0, train.batch_size, config.prompt_len or 0

        largest_first = sorted(self._resolved_runs, key=size, reverse=True)[:KINDS]
        sessions = [self._session(resolved_run) for resolved_run in largest_first]
        needs = [need_of(session) for session in sessions if session is not None]
        return largest(needs) if needs else None

    def fastest(self, numbers: Sequence[int]) -> tuple[int, float]:
        """The last of the numbers of lanes that is faster than the one before, by GAIN or more.

        Also returns its throughput over that of one lane. Stops where memory runs out.
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
        """Lanes at their first step; fewer than `number` where fewer runs can start."""
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
            with suppress(InputError):  # its trial reports it later
                self._opened[mark] = self._pool.open(resolved_run)
        return self._opened[mark]


def _rate(lanes: Sequence[Lane]) -> float:
    """Rows per second, over the first steps of every lane."""
    sharing = Sharing(rows_of_a_pass(lanes[0].device))
    passes = max(lane.batches.accumulate for lane in lanes)
    rows, start = 0, 0.0
    for step in range((STEPS + 1) * passes):
        if step == passes:
            start = time.perf_counter()
        for _, done in train_batch(lanes, sharing):
            float(done.loss)  # waits for the device
            rows += done.rows if step >= passes else 0
    return rows / (time.perf_counter() - start)


def _too_many(lanes: int, fit: int, taken: int, free: int, where: str) -> ConfigError:
    return ConfigError.at(
        where,
        f"{lanes} lanes would take about {taken / 2**30:.1f} GiB besides the backbone, and "
        f"{free / 2**30:.1f} GiB are free: {fit} fit",
        f"{LANES} {fit}, or {LANES} auto; a smaller train.batch_size with train.accumulate needs "
        "less",
    )
