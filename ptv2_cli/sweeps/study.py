"""The study of a search: what was asked, what came out of it; Optuna proposes what is next."""

from __future__ import annotations

import itertools
import random
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ptv2_cli.errors import ConfigError, MachineError, Problem, RunError
from ptv2_cli.files import refuse_link
from ptv2_cli.rng import derive
from ptv2_cli.sweeps.axes import Axis
from ptv2_cli.sweeps.leaderboard import show
from ptv2_cli.sweeps.ranges import drawn
from ptv2_cli.sweeps.search_options import JOURNAL, SearchOptions, password_of
from ptv2_cli.sweeps.search_space import every_value, is_finite, is_whole

REPEATS = 5
"""Times that a setting may be proposed again before one that nobody has tried is drawn instead."""
STARTUP = 5
"""Random settings before TPE proposes any; Optuna's 10 are half of a search of prompts.

On the grid of docs/grid.md regret after 10 trials is half of that with 10, and later no larger.
"""
REDUCTION = 3
"""Hyperband promotes one run of so many from each rung."""
STARTS = 5
"""Times that a database is opened again whose tables another process makes at the same moment."""
LOCKED_SECONDS = 120.0
"""How long a process waits for others that write an SQLite file."""
_MADE_MEANWHILE = re.compile("already exists|duplicate|UNIQUE constraint", re.IGNORECASE)
LISTED = 100_000
"""Settings up to which those that are left are listed; of more, one is drawn at random."""
State = Literal["running", "finished", "pruned", "failed"]
_STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_FOLDER, _REPEAT, _SECONDS = "folder", "repeats", "seconds"
"""User attributes: of a trial the sweep's folder, and what it repeats; of the study its time."""


@dataclass(frozen=True)
class Asked:
    """A setting that was asked for."""

    number: int
    """Of the study's trial, from 0."""
    values: tuple[Any, ...]
    """For each key of the space, as a config has it."""
    state: State = "running"


class Study:
    """An Optuna study over a space of keys.

    Every draw comes from the seed and the trial's number: a study that was stopped and goes on
    proposes what it would have proposed.
    """

    def __init__(
        self,
        folder: Path,
        options: SearchOptions,
        space: Sequence[Axis],
        *,
        mode: str,
        seed: int,
        evaluations: int,
        name: str = "",
    ) -> None:
        """Open the study of a sweep's folder, or make it. Lock the folder before.

        Args:
            folder: the sweep's folder, whose name is the study's.
            options: of the search.
            space: a range or choices for each key.
            mode: whether the highest or the lowest score is best: max or min.
            seed: of all proposals.
            evaluations: how many a whole run has.
            name: of the study; default: the folder's.

        Raises:
            RunError: the journal is damaged.
            ConfigError: the database cannot be used.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._options = options
        self._space = list(space)
        self._distributions = {axis.key: _distribution(axis) for axis in self._space}
        self._seed = seed
        self._folder = str(folder.absolute())
        self._pruner = _pruner(options.prune, evaluations)
        path = folder / JOURNAL
        try:
            self._study = optuna.create_study(
                storage=open_database(options.storage) if options.storage else _journal(path),
                study_name=name or folder.name,
                direction="maximize" if mode == "max" else "minimize",
                load_if_exists=True,
            )
            self._trials()
        except (ValueError, KeyError) as error:
            if options.storage:
                raise
            what = f"is damaged: {error}"
            hint = f"remove it with rm {path} to search anew; the runs that finished are not lost"
            raise RunError.at(str(path), what, hint) from None
        for trial in () if options.storage else self._trials():
            if trial.state is TrialState.RUNNING and not self._complete(trial):
                self._repeat(trial.number)

    @property
    def seconds(self) -> float:
        """The time of the search until it was last noted, over all commands."""
        return float(self._study.user_attrs.get(_SECONDS, 0.0))

    def note_seconds(self, seconds: float) -> None:
        """Keep the time of the search."""
        self._study.set_user_attr(_SECONDS, round(seconds, 3))

    def asked(self, *, mine: bool = False) -> list[Asked]:
        """The settings asked for until now, without repeats; `mine`: only by this sweep's folder.

        A setting that was tried again after a failure is there as often.
        """
        return [
            Asked(trial.number, self._values(trial.params), _STATES[trial.state])
            for trial in self._trials()
            if self._complete(trial)
            and _REPEAT not in trial.user_attrs
            and (not mine or self._is_mine(trial))
        ]

    def count(self) -> int:
        """How many different settings were asked for."""
        return len({_key(asked.values) for asked in self.asked()})

    def ask(self) -> Asked | None:
        """A setting that was not asked for before; None where the space has no other."""
        known = {_key(asked.values) for asked in self.asked()}
        for _ in range(0 if self._options.search == "grid" else REPEATS):
            asked = self._ask(self._sampler)
            if _key(asked.values) not in known:
                return asked
            self._repeat(asked.number)
        return self._other(known)

    def again(self, values: Sequence[Any]) -> Asked:
        """Ask for a setting once more, whose run has failed."""
        return self._ask(lambda number: self._fixed(values, number))

    def report(self, number: int, evaluation: int, value: float) -> None:
        """Tell the score of an evaluation, counted from 1; one that is known stays as it is."""
        trial = self._frozen(number)
        if evaluation not in trial.intermediate_values:
            optuna.Trial(self._study, trial._trial_id).report(value, evaluation)

    def gives_up(self, number: int) -> bool:
        """Whether the trial does worse than others did at its last evaluation."""
        if self._pruner is None:
            return False
        return self._pruner.prune(self._study, self._frozen(number))

    def tell(self, number: int, state: State, value: float | None = None) -> None:
        """Tell how a trial has ended, unless the study knows it already.

        Args:
            number: of the trial.
            state: pruned without any evaluation counts as worse than all others.
            value: the score of a trial that has finished.
        """
        states = {known: stored for stored, known in _STATES.items()}
        self._study.tell(number, value, states[state], skip_if_finished=True)

    def _ask(self, sampler: Any) -> Asked:
        number = len(self._trials())
        self._study.sampler = sampler(number)
        with _quiet():
            trial = self._study.ask(self._distributions)
        if self._options.storage:
            trial.set_user_attr(_FOLDER, self._folder)
        return Asked(trial.number, self._values(trial.params))

    def _sampler(self, number: int) -> BaseSampler:
        if self._options.search == "tpe":
            return TPESampler(seed=self._draws(number), n_startup_trials=STARTUP)
        return RandomSampler(seed=self._draws(number))

    def _draws(self, number: int) -> int:
        """The seed of one proposal; sweeps that share a database draw differently."""
        whose = f"/{self._folder}" if self._options.storage else ""
        return derive(self._seed, f"search{whose}/{number}") % 2**32

    def _fixed(self, values: Sequence[Any], number: int) -> BaseSampler:
        """What proposes these values."""
        labels = {
            axis.key: value if axis.scale else _labels(axis)[_position(axis, value)]
            for axis, value in zip(self._space, values, strict=True)
        }
        with _quiet():
            return PartialFixedSampler(labels, RandomSampler(seed=number))

    def _other(self, known: set[str]) -> Asked | None:
        """One of the settings that are left: for a grid the next, else any of them."""
        if not is_finite(self._space):
            return self._ask(lambda number: RandomSampler(seed=self._draws(number)))
        every = itertools.product(*map(every_value, self._space))
        left = [one for one in itertools.islice(every, LISTED) if _key(one) not in known]
        if not left:
            return None
        draw = random.Random(self._draws(len(self._trials())))
        chosen = left[0] if self._options.search == "grid" else draw.choice(left)
        return self.again(chosen)

    def _repeat(self, number: int) -> None:
        """Mark a trial as a repeat and end it; no run belongs to it."""
        optuna.Trial(self._study, self._frozen(number)._trial_id).set_user_attr(_REPEAT, True)
        self.tell(number, "failed")

    def _values(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """What a config has for the parameters of a trial; empty where some are missing."""
        if not all(axis.key in params for axis in self._space):
            return ()
        return tuple(
            drawn(params[axis.key], (axis.values[0], axis.values[1]))
            if axis.scale
            else axis.values[_labels(axis).index(params[axis.key])]
            for axis in self._space
        )

    def _complete(self, trial: FrozenTrial) -> bool:
        """Whether all its values were written; a kill while it was asked for leaves some out."""
        return all(axis.key in trial.params for axis in self._space)

    def _is_mine(self, trial: FrozenTrial) -> bool:
        return not self._options.storage or trial.user_attrs.get(_FOLDER) == self._folder

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._trials()[number]


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.scale is None:
        return CategoricalDistribution(_labels(axis))
    low, high = axis.values
    if is_whole(axis):
        return IntDistribution(int(low), int(high), log=axis.scale == "log")
    return FloatDistribution(float(low), float(high), log=axis.scale == "log")


def _labels(axis: Axis) -> list[Any]:
    """The choices as the study names them: words and numbers; anything else as YAML writes it."""
    labels: list[Any] = []
    for value in axis.values:
        plain: Any = show(value)
        if value is None or isinstance(value, bool):
            plain = value
        elif isinstance(value, int):
            plain = int(value)
        elif isinstance(value, float):
            plain = float(value)
        labels.append(plain)
    return labels


def _position(axis: Axis, value: Any) -> int:
    return next(i for i, known in enumerate(axis.values) if _key([known]) == _key([value]))


def _key(values: Sequence[Any]) -> str:
    """Equal for equal settings."""
    return repr([show(value) if isinstance(value, dict | list) else value for value in values])


def _pruner(name: str | None, evaluations: int) -> optuna.pruners.BasePruner | None:
    if name is None:
        return None
    if name == "median":
        return optuna.pruners.MedianPruner()
    return optuna.pruners.HyperbandPruner(
        min_resource=1, max_resource=evaluations, reduction_factor=REDUCTION
    )


def _journal(path: Path) -> BaseStorage:
    """The storage in a file, put in order: only this process writes it."""
    refuse_link(path)
    path.with_name(path.name + ".lock").unlink(missing_ok=True)  # of a killed process
    if path.exists():
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end != len(data):  # a line that a killed process has not finished
            with path.open("r+b") as file:
                file.truncate(end)
    lock = JournalFileOpenLock(str(path))
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def open_database(url: str) -> BaseStorage:
    """The database of a search; its tables are made if it has none.

    Raises:
        ConfigError: it cannot be used.
    """
    waits = {"connect_args": {"timeout": LOCKED_SECONDS}} if url.startswith("sqlite") else {}
    try:
        for _ in range(STARTS):
            try:
                return RDBStorage(url, engine_kwargs=waits)
            except Exception as error:
                if not _MADE_MEANWHILE.search(str(error)):
                    raise
        return RDBStorage(url, engine_kwargs=waits)
    except Exception as error:  # whatever the database's driver raises
        what = f"the database of the search cannot be used: {_told(error, url)}"
        hint = "check the URL and that its driver is installed; without storage, a file is used"
        raise ConfigError.at("storage", what, hint) from None


@contextmanager
def database_failures(url: str) -> Iterator[None]:
    """Report a database that fails while a search uses it.

    Raises:
        MachineError: it did.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        what = f"the database of the search failed: {_told(error.__cause__ or error, url)}"
        hint = "the same command continues the search when it works again"
        raise MachineError(Problem("storage", what, hint)) from error


def _told(error: BaseException, url: str) -> str:
    """The first line of a driver's error, without the password."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0] if lines else ''}"
    password = password_of(url)
    return text.replace(password, "***") if password else text


class _quiet(warnings.catch_warnings):  # noqa: N801
    """Without warnings about what is experimental."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered
