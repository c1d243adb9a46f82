"""A sweep whose settings a study proposes one by one, by the results of those before."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptv2_cli.config.fingerprint import fingerprint
from ptv2_cli.config.load import ConfigSource, load_config
from ptv2_cli.config.overrides import Override
from ptv2_cli.errors import ConfigError, InputError, gather
from ptv2_cli.rng import derive
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.runs.results import plain
from ptv2_cli.runs.rows.data import Memo
from ptv2_cli.sweeps.axes import Axis, Variants, from_section, joined
from ptv2_cli.sweeps.engine import EngineContext, TrialSpec
from ptv2_cli.sweeps.grid import Combination, combination_of
from ptv2_cli.sweeps.options import Said
from ptv2_cli.sweeps.records import DONE, Outcome
from ptv2_cli.sweeps.search_options import SearchOptions, check_search
from ptv2_cli.sweeps.search_space import corners_of, drawn_value, every_value, spread, without_seed
from ptv2_cli.sweeps.store import Store
from ptv2_cli.sweeps.trials import Plan, Trial, check_names, identity, make_trial
from ptv2_cli.training.events import EvalDone

if TYPE_CHECKING:  # imports Optuna, which only a search that runs needs
    from ptv2_cli.sweeps.study import Asked, Study

PREPARED = 8
"""Most ends of the space whose data is read and whose memory and time are measured."""


@dataclass
class _Setting:
    """A setting that was asked for and whose result the study does not know yet."""

    number: int
    """Of the study's trial."""
    trials: list[Trial]
    """One for each seed."""


class Search:
    """Asks for settings, hands their trials to an engine, and tells the study what came out."""

    def __init__(
        self,
        config: ConfigSource,
        base: Sequence[Override],
        axes: Sequence[Axis],
        options: SearchOptions,
        where: str,
        output: Path,
        *,
        offline: bool,
        memo: Memo,
        samples: int = 1,
    ) -> None:
        """Check the space; write nothing.

        Args:
            config: of all trials.
            base: the overrides of all trials.
            axes: the space, and perhaps seeds.
            options: of the search.
            where: what says `prune`, for messages.
            output: the folder of the runs.
            offline: never use the network.
            memo: what the process has read.
            samples: how many settings at least to draw for the engine's forecast.

        Raises:
            ConfigError: a key of the space is unknown, or a value that it may take is refused.
            InputError: no setting can run.
        """
        self.options = options
        self.space, self._seed_axes = without_seed(axes)
        self._seeds: tuple[Any, ...] = self._seed_axes[0].values if self._seed_axes else (None,)
        self._config, self._base = config, base
        self._output, self._offline, self._memo = output, offline, memo
        corners = corners_of(config, base, self.space, self._seed_axes)
        check_names(corners)
        ends = [self._made(corner, i) for i, corner in enumerate(spread(corners, PREPARED), 1)]
        self.refused = [trial for trial in ends if trial.resolved_run is None]
        """Ends of the space that cannot run."""
        able = [trial for trial in ends if trial.resolved_run is not None]
        if not able:
            gather(dict.fromkeys(p for trial in ends for p in trial.refusal))
        self._first = able[0]
        self.samples = self._drawn(able, samples)
        """Settings of the space, for the engine to measure; they are not trained."""
        self.evaluations = max(
            _evaluations(trial.resolved_run) for trial in able if trial.resolved_run
        )
        """How many a whole run has, at most."""
        self._check_scores(able, where)
        name, mark = identity(able)
        expected = self._expected() * len(self._seeds)
        self.plan = Plan(name, self._identity(mark), (), 0, expected=expected, searched=True)

    def require_database(self) -> None:
        """See that the database of the search can be used, if it has one.

        Raises:
            ConfigError: it cannot.
        """
        if self.options.storage is not None:
            from ptv2_cli.sweeps.study import open_database

            open_database(self.options.storage)

    def begin(self, store: Store) -> None:
        """Open the study. Make and lock the sweep's folder before.

        Raises:
            RunError: the study's journal is damaged.
            ConfigError: the database cannot be used.
        """
        from ptv2_cli.sweeps.study import Study

        self._store = store
        record = self._first.record
        self._study: Study = Study(
            store.folder,
            self.options,
            self.space,
            mode=record.mode,
            seed=record.seed,
            evaluations=self.evaluations,
        )
        self._before = self._study.seconds
        self._start = time.monotonic()
        self._open: dict[str, list[_Setting]] = {}
        """Fingerprint of a trial that runs or will -> the settings that wait for it."""
        marks = [trial.fingerprint for trial in store.records]
        self._numbers = {mark: number for number, mark in enumerate(marks, 1)}
        """Fingerprint -> number of the trial, those of earlier commands included."""
        self._evaluated: dict[str, list[int]] = {}
        """Fingerprint -> the steps after which its run was evaluated."""

    def specs(self, refuse: Callable[[Trial], None]) -> Iterator[TrialSpec]:
        """The trials, each decided on when it is asked for; those of earlier commands first.

        `refuse` is called with a trial that cannot run; it must end in `ended`.
        """
        with self._storing():
            for asked in self._left():
                yield from self._begun(asked, refuse)
            while not self._over():
                following = self._study.ask()
                if following is None:
                    return
                yield from self._begun(following, refuse)

    def should_stop(self, trial: Trial, evaluation: EvalDone) -> bool:
        """Report an evaluation to the study; whether it gives the trial up."""
        mark = trial.record.fingerprint
        if self.options.seconds is not None:  # a trial that is interrupted has taken time too
            with self._storing():
                self._study.note_seconds(self._seconds())
        if self.options.prune is None:
            return False
        number = self._open[mark][0].number
        if mark not in self._evaluated:
            self._evaluated[mark] = _evaluated_before(trial)
        steps = self._evaluated[mark]
        if evaluation.step not in steps:  # else its process died before it was saved
            steps.append(evaluation.step)
        value = evaluation.scores.get(trial.record.metric or "", math.nan)
        with self._storing():
            self._study.report(number, steps.index(evaluation.step) + 1, value)
            return self._study.gives_up(number)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """Tell the study of the settings that have all their results now."""
        with self._storing():
            for setting in self._open.pop(trial.record.fingerprint, []):
                self._settle(setting)
            self._study.note_seconds(self._seconds())

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Report a database that fails meanwhile.

        Raises:
            MachineError: it did.
        """
        with ExitStack() as failures:
            if self.options.storage is not None:
                from ptv2_cli.sweeps.study import database_failures

                failures.enter_context(database_failures(self.options.storage))
            yield

    @property
    def over(self) -> str:
        """Why the search asks for nothing more: `trials` or `time`; empty if it does."""
        if self.options.trials is not None and self._study.count() >= self.options.trials:
            return "trials"
        limit = self.options.seconds
        return "time" if limit is not None and self._seconds() >= limit else ""

    def _over(self) -> bool:
        return bool(self.over)

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._start

    def _left(self) -> list[Asked]:
        """What earlier commands asked for and did not end, and what failed, to be tried again."""
        mine = {repr(asked.values): asked for asked in self._study.asked(mine=True)}
        left = [asked for asked in mine.values() if asked.state == "running"]
        failed = [asked for asked in mine.values() if asked.state == "failed"]
        return left + [self._study.again(asked.values) for asked in failed]

    def _begun(self, asked: Asked, refuse: Callable[[Trial], None]) -> Iterator[TrialSpec]:
        """Plan a setting's trials; yields those that must be trained."""
        setting = _Setting(asked.number, self._planned(asked.values))
        before = {trial.record.fingerprint for trial in setting.trials} & set(self._open)
        for trial in setting.trials:
            self._open.setdefault(trial.record.fingerprint, []).append(setting)
        for trial in setting.trials:
            mark = trial.record.fingerprint
            if trial.resolved_run is None:
                refuse(trial)
            elif self._store.outcomes[mark].status in DONE:
                self.ended(trial, self._store.outcomes[mark])
            elif mark not in before:  # else another setting of the same run trains it
                yield self._store.spec(trial)

    def _planned(self, values: Sequence[Any]) -> list[Trial]:
        """The trials of a setting, in the plan; those that are there already as they are."""
        known = {trial.record.fingerprint: trial for trial in self._store.plan.trials}
        trials: list[Trial] = []
        for seed in self._seeds:
            combination = self._combined(values, seed)
            trial = self._made(combination, 0)
            mark = trial.record.fingerprint
            number = self._numbers.setdefault(mark, len(self._numbers) + 1)
            trial = known.setdefault(mark, replace(trial, number=number))
            trials.append(trial)
        self._store.extend(trials)
        return trials

    def _settle(self, setting: _Setting) -> None:
        """Tell the result of a setting, if all its trials have one."""
        outcomes = [self._store.outcomes[trial.record.fingerprint] for trial in setting.trials]
        if any(outcome.status not in DONE | {"failed"} for outcome in outcomes):
            return
        scores = [o.value for o in outcomes if o.scored and o.value is not None]
        states = {outcome.status for outcome in outcomes}
        if scores and "pruned" not in states:
            self._study.tell(setting.number, "finished", statistics.fmean(scores))
        elif states == {"failed"}:
            self._study.tell(setting.number, "failed")
        else:  # also one that diverged: worse than any other
            self._study.tell(setting.number, "pruned")

    def _combined(self, values: Sequence[Any], seed: Any) -> Combination:
        axes, seeds = [*self.space, *self._seed_axes], [] if seed is None else [seed]
        return combination_of(self._config, self._base, axes, [*values, *seeds])

    def _made(self, combination: Combination, number: int) -> Trial:
        return make_trial(combination, number, self._output, self._offline, self._memo)

    def _drawn(self, able: Sequence[Trial], count: int) -> list[TrialSpec]:
        """The specs of the ends, and of further settings up to `count`."""
        specs = {trial.record.fingerprint: trial.spec for trial in able}
        draw = random.Random(derive(0, "samples of a search"))
        for _ in range(4 * count):
            if len(specs) >= count:
                break
            values = [drawn_value(axis, draw) for axis in self.space]
            try:
                trial = self._made(self._combined(values, self._seeds[0]), len(specs) + 1)
            except InputError:  # it says so if it comes up
                continue
            if trial.resolved_run is not None:
                specs[trial.record.fingerprint] = trial.spec
        return list(specs.values())

    def _check_scores(self, able: Sequence[Trial], where: str) -> None:
        """Refuse a pruner that has nothing to judge by."""
        if self.options.prune is None or self.evaluations > 1:
            return
        what = "prune has nothing to judge by: a run has one evaluation, at its end"
        hint = "write train: {eval_every: N} with fewer steps than a run has, or more epochs"
        raise ConfigError.at(where, what, hint)

    def _expected(self) -> int:
        if self.options.search != "grid":
            return self.options.trials or 0
        size = math.prod(map(len, map(every_value, self.space)))
        return min(size, self.options.trials or size)

    def _identity(self, base: str) -> str:
        """Fingerprint of the search: the configs without the space, and the space itself."""
        space = {
            axis.key: {
                "scale": axis.scale,
                "values": [plain(value) for value in axis.values],
                "settings": repr(axis.settings) if isinstance(axis, Variants) else None,
            }
            for axis in self.space
        }
        seeds = [plain(value) for value in self._seeds]
        content = {"base": base, "search": self.options.search, "space": space, "seeds": seeds}
        return fingerprint(content, {})


def plan_search(
    configs: Sequence[ConfigSource],
    base: Sequence[Override],
    flags: Sequence[Axis],
    said: Mapping[str, Said],
    options: SearchOptions,
    output: Path,
    context: EngineContext,
) -> Search:
    """The search that a config and flags describe; writes nothing.

    Raises:
        ConfigError: the space or the options are wrong; with everything that is.
        InputError: no setting can run.
    """
    read = [load_config(config, base) for config in configs]
    axes = [joined(from_section(loaded), flags) for loaded in read]
    check_search(options, said, axes[0], len(configs))
    lanes = PREPARED if context.lanes.count == "auto" else context.lanes.count
    return Search(
        configs[0],
        base,
        axes[0],
        options,
        said["prune"].where if "prune" in said else "",
        output,
        offline=context.offline,
        memo=context.memo,
        samples=min(lanes, options.trials or lanes),
    )


def _evaluated_before(trial: Trial) -> list[int]:
    """The steps after which a trial was evaluated before its last save."""
    run = trial.resolved_run
    if run is None or not run.started:
        return []
    from ptv2_cli.training.checkpoint import load_state

    state = load_state(run.directory.checkpoints, "last", run.fingerprint)
    return [evaluation["step"] for evaluation in state["tracker"]["history"]]


def _evaluations(run: ResolvedRun | None) -> int:
    """How many evaluations a whole run has; with `batch_tokens` about as many."""
    assert run is not None
    train = run.resolved.config.train
    if train.eval_every == "epoch" and train.epochs:
        return train.epochs
    batches = -(-len(run.data.rows("train")) // train.batch_size)
    per_epoch = max(1, -(-batches // train.accumulate))
    steps = train.steps or (train.epochs or 1) * per_epoch
    every = per_epoch if train.eval_every == "epoch" else int(train.eval_every)
    return max(1, -(-steps // every))
