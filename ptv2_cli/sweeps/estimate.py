"""How long a sweep will take, from a few timed steps of some of its trials."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ptv2_cli.errors import InputError, RunError, out_of_memory
from ptv2_cli.inputs.feature_table import FeatureTable
from ptv2_cli.multiplex import Sharing
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.session import Session
from ptv2_cli.sweeps.session_pool import SessionPool
from ptv2_cli.training.events import EvalDone, StepDone
from ptv2_cli.training.lane import Lane
from ptv2_cli.training.loop import fit
from ptv2_cli.training.lr_curve import STEPS as RANGE_STEPS

STEPS = 6
"""Most steps that are timed, after a first one that warms up."""
SECONDS = 4.0
"""Time after which no further step starts."""
ROWS = 32
"""Features that are predicted, to time an evaluation."""
SESSIONS = 6
"""Most runs that are timed; further kinds of run count like the timed ones."""


@dataclass(frozen=True)
class Rates:
    """What one timed run costs. Tokens are those of the text, without padding and prompt."""

    prompt_len: int
    load: float
    """Seconds until training begins."""
    train: float
    """Seconds of training per token."""
    evaluate: float
    """Seconds of evaluation per token."""
    tokens: float
    """Tokens of a row of train, in all its windows."""
    rows: float
    """Rows of train in a batch, on average."""


def estimate(resolved_runs: Sequence[ResolvedRun], pool: SessionPool) -> dict[str, float] | None:
    """Fingerprint -> seconds that the run still takes; None where no run could be timed.

    The shortest and the longest prompt of each kind of run are timed; the time per token is
    interpolated between the two. Early stopping is not taken into account.
    """
    kinds: dict[str, list[ResolvedRun]] = {}
    for resolved_run in resolved_runs:
        kinds.setdefault(_kind(resolved_run), []).append(resolved_run)
    measured: dict[str, list[Rates]] = {}
    sessions = 0
    for kind, members in kinds.items():
        for resolved_run in _ends(members):
            if sessions < SESSIONS:
                sessions += 1
                measured.setdefault(kind, []).extend(_timed(resolved_run, pool))
    everything = [rates for timed in measured.values() for rates in timed]
    if not everything:
        return None
    return {
        run.fingerprint: _seconds(run, measured.get(_kind(run)) or everything)
        for run in resolved_runs
    }


def _kind(resolved_run: ResolvedRun) -> str:
    """Runs of one kind differ only in prompt length, learning rates, seed and number of steps."""
    config = resolved_run.resolved.config
    content = config.model_dump(mode="json", include={"method", "backbone", "task", "head"})
    content["task"].pop("limit", None)
    content["task"].pop("max_len", None)
    train = config.train
    batches = train.batch_tokens or train.batch_size
    computing = [train.precision, train.gradient_checkpointing, train.compile]
    content["train"] = [*computing, batches]
    return json.dumps(content, sort_keys=True)


def _ends(members: Sequence[ResolvedRun]) -> list[ResolvedRun]:
    """The runs with the shortest and with the longest prompt."""
    ordered = sorted(members, key=_prompt_len)
    first, last = ordered[0], ordered[-1]
    return [first] if _prompt_len(first) == _prompt_len(last) else [first, last]


def _prompt_len(resolved_run: ResolvedRun) -> int:
    return resolved_run.resolved.config.prompt_len or 0


def _timed(resolved_run: ResolvedRun, pool: SessionPool) -> list[Rates]:
    """The rates of one run; none if it cannot run, which its trial reports later."""
    try:
        began = time.perf_counter()
        devices = [pool.device] if pool.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            return [_measured(pool.open(resolved_run), began)]
    except InputError:
        return []
    except Exception as error:
        if not out_of_memory(error):
            raise
        return []
    finally:
        pool.close(resolved_run)


def _measured(session: Session, began: float) -> Rates:
    lane = session.new_lane()
    lane.eval_every = lane.steps
    load = time.perf_counter() - began
    train = session.data.features("train")
    rows = len(session.resolved_run.data.rows("train"))

    def skipped(lanes: Sequence[Lane]) -> list[EvalDone]:
        return [EvalDone(lane.step, 0.0, {}, 0.0, None)]

    times: list[tuple[float, int]] = []
    start = last = time.perf_counter()
    for ((_, event),) in fit([lane], Sharing(), skipped):
        if isinstance(event, StepDone):
            float(event.loss)  # waits for the device
            now = time.perf_counter()
            times.append((now - last, event.tokens))
            last = now
            if len(times) > STEPS or now - start > SECONDS:
                break
    timed = times[1:] or times
    chosen = session.data.features(session.resolved.config.selection.split)
    chosen = chosen[:: max(1, len(chosen) // ROWS)][:ROWS]
    start = time.perf_counter()
    session.predictor(chosen)
    evaluation = time.perf_counter() - start
    return Rates(
        prompt_len=_prompt_len(session.resolved_run),
        load=load,
        train=sum(seconds for seconds, _ in timed) / max(1, sum(tokens for _, tokens in timed)),
        evaluate=evaluation / max(1, _tokens(chosen)),
        tokens=_tokens(train) / max(1, rows),
        rows=rows / max(1, lane.batches.batches_per_epoch),
    )


def _tokens(features: FeatureTable) -> int:
    return int(features.tokens.sum())


def _seconds(resolved_run: ResolvedRun, rates: Sequence[Rates]) -> float:
    """Seconds that a run still takes, at the rates of its kind."""
    config, data = resolved_run.resolved.config, resolved_run.data
    train, split = config.train, config.selection.split
    rate = _between(rates, _prompt_len(resolved_run))
    rows = len(data.rows("train"))
    batches = rows / rate.rows if train.batch_tokens else -(-rows // train.batch_size)
    per_epoch = max(1, math.ceil(batches / train.accumulate))
    steps = train.steps or (train.epochs or 1) * per_epoch
    every = per_epoch if train.eval_every == "epoch" else int(train.eval_every)
    trained = rate.tokens * rows * steps / per_epoch
    others = sum(len(data.rows(name)) for name in config.report or () if name != split)
    # Other reported splits are scored at the last and the chosen epoch.
    scored = rate.tokens * (-(-steps // every) * len(data.rows(split)) + 2 * others)
    done = _done(resolved_run)
    left = 1 - min(1.0, done / steps)
    tested = 0 if done or not resolved_run.resolved.finds_lr else RANGE_STEPS
    range_test = rate.train * rate.tokens * rows * tested / per_epoch
    return rate.load + range_test + left * (rate.train * trained + rate.evaluate * scored)


def _done(resolved_run: ResolvedRun) -> int:
    """Steps of an interrupted run up to its last evaluation."""
    if not resolved_run.started:
        return 0
    try:
        lines = resolved_run.directory.read_history()
    except RunError:
        return 0
    return int(lines[-1]["step"]) if lines else 0


def _between(rates: Sequence[Rates], prompt_len: int) -> Rates:
    """Rates interpolated between the shortest and the longest timed prompt."""
    low = min(rates, key=lambda timed: timed.prompt_len)
    high = max(rates, key=lambda timed: timed.prompt_len)
    if high.prompt_len == low.prompt_len:
        return low
    share = (prompt_len - low.prompt_len) / (high.prompt_len - low.prompt_len)
    share = min(1.0, max(0.0, share))

    def mix(one: float, other: float) -> float:
        return one + share * (other - one)

    return Rates(
        prompt_len=prompt_len,
        load=mix(low.load, high.load),
        train=mix(low.train, high.train),
        evaluate=mix(low.evaluate, high.evaluate),
        tokens=mix(low.tokens, high.tokens),
        rows=mix(low.rows, high.rows),
    )
