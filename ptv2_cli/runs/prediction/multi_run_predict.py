"""Predict rows of several tasks, each with its own run, over one copy of the backbone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from ptv2_cli.data.formats import RawRow, Record
from ptv2_cli.data.rows import Row, SourceRow, source_of
from ptv2_cli.errors import ConfigError, DataError
from ptv2_cli.inputs.features import Feature
from ptv2_cli.runs.build import load_for
from ptv2_cli.runs.prediction.predict import BATCHES, Run, ignore
from ptv2_cli.runs.prediction.prediction_stream import Chunk, chunks
from ptv2_cli.runs.results import prediction_line
from ptv2_cli.runs.run_files import PredictionLine
from ptv2_cli.tasks.multi import TASK
from ptv2_cli.training.evaluate import PredictionRequest, predict

SHARED = 64
"""Rows of a pass that rows of several runs share, unless it is given."""
_Share = tuple[list[int], Sequence[Feature]]
"""Where the rows of a run stand among all, and their features."""
HINT = "predict with each run by itself"


class MixedRuns:
    """Finished runs on one backbone; a row names its run by the key `task`.

    Attributes:
        names: what a row may call each run: its task's short name, its task's name, its config's
            or its folder's, as far as they tell the runs apart.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        """Check that the runs can share a backbone.

        Raises:
            ConfigError: runs of different backbones, or backbones that trained.
        """
        self.runs = tuple(runs)
        first = self.runs[0]
        for run in self.runs:
            _check_alike(first, run)
        self.names = _names(self.runs)

    def new_rows(self, line: RawRow) -> list[Row]:
        """The rows of a line, checked by the task of the run that it names.

        Raises:
            DataError: it names no run, or its run's task refuses it.
        """
        name = line.values.get(TASK)
        if not isinstance(name, str) or name not in self.names:
            what = "names no run" if name is None else f"names no run of these: {name!r}"
            known = ", ".join(self._shown())
            raise DataError.at(line.where, what, f"the key {TASK} of a row is one of {known}")
        rest = {key: value for key, value in line.values.items() if key != TASK}
        rows = self.runs[self.names[name]].task.new_rows(replace(line, values=rest))
        return [
            SourceRow({TASK: name, **row}, {TASK: name, **source_of(row)}, name) for row in rows
        ]

    def chunks(
        self,
        records: Iterable[Record],
        batch_size: int | None = None,
        *,
        skip_bad: bool = False,
        tick: Callable[[int], None] | None = None,
        ahead: bool = False,
    ) -> Iterator[Chunk]:
        """Predict rows as they are read; see Run.chunks."""
        size = batch_size or self.runs[0].config.train.eval_batch_size or SHARED
        answer = partial(self._lines, size=size, tick=tick or ignore)
        return chunks(self, self._encode, answer, records, BATCHES * size, skip_bad, ahead)

    def _encode(self, rows: list[Row]) -> list[_Share]:
        """The share of each run in the rows."""
        shares: list[_Share] = []
        for number, (session, _) in enumerate(self._sessions):
            places = [at for at, row in enumerate(rows) if self.names[row[TASK]] == number]
            own = [_without_task(rows[at]) for at in places]
            task, encoder = self.runs[number].task, session.data.encoder
            shares.append((places, task.encode(own, encoder) if own else []))
        return shares

    def _lines(
        self, rows: list[Row], shares: list[_Share], size: int, tick: Callable[[int], None]
    ) -> list[PredictionLine]:
        sessions = self._sessions
        tick(0)
        lines: list[PredictionLine] = [{} for _ in rows]
        wanted = [
            PredictionRequest(replace(session.predictor, batch_size=size), features)
            for (session, _), (_, features) in zip(sessions, shares, strict=True)
        ]
        answers = predict(wanted, rows=size)
        for number, (places, features) in enumerate(shares):
            own = [_without_task(rows[at]) for at in places]
            task, state = self.runs[number].task, sessions[number][1]
            found = task.decode(own, features, answers[number].outputs, state) if own else []
            for at, line in zip(places, found, strict=True):
                lines[at] = prediction_line(rows[at], line)
        tick(len(rows))
        return lines

    @cached_property
    def _sessions(self) -> list[tuple[Any, dict[str, float]]]:
        """The runs' models, all over one backbone."""
        whole = load_for(self.runs[0].resolved, self.runs[0].device)
        return [run.open(whole.view()) for run in self.runs]

    def _shown(self) -> list[str]:
        """The shortest name of each run."""
        return [
            min((name for name, at in self.names.items() if at == number), key=len)
            for number in range(len(self.runs))
        ]


def _without_task(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != TASK}


def _check_alike(first: Run, run: Run) -> None:
    """Raise ConfigError unless both use the same frozen weights in the same way."""
    reason = unshared_reason(first, run)
    if reason is not None:
        raise ConfigError.at(f"--run {run.directory}", reason, HINT)


def unshared_reason(first: Run, run: Run) -> str | None:
    """Why a run cannot use the backbone of `first`; None: one copy serves both.

    `first` may be the run itself: then the reason is what keeps it from sharing with any other.
    """
    one, other = first.config, run.config
    family = run.resolved.shape.family
    if run.resolved.method.changes_backbone:
        verb = "trained" if run.resolved.method.trains_backbone else "has layers of its own"
        return f"the backbone of a {other.method.name} run {verb}"
    reason = run.resolved.method.unshared(family.name, family.shared_tables)
    if reason is not None:
        return reason
    if run.resolved.verbalizes:
        return "a verbalizer needs the backbone's own LM head beside it"
    if run.task.kind_spec.writes:
        return "a text is written by the backbone's own LM head, which other runs lack"
    if first.resolved.located.identity != run.resolved.located.identity:
        return (
            f"its backbone is {other.backbone.name}, that of {first.directory} is "
            f"{one.backbone.name}: one copy cannot serve both"
        )
    if (one.backbone.dtype, one.backbone.quantize) != (
        other.backbone.dtype,
        other.backbone.quantize,
    ):
        return f"its backbone is held in another type than that of {first.directory}"
    if one.train.precision != other.train.precision:
        return f"computes in {other.train.precision}, {first.directory} in {one.train.precision}"
    return None


def _names(runs: Sequence[Run]) -> dict[str, int]:
    """What rows may call the runs; a name that two runs have is left out.

    Raises:
        ConfigError: a run is named twice.
    """
    paths = Counter(run.directory.resolve() for run in runs)
    twice = next((path for path, count in paths.items() if count > 1), None)
    if twice is not None:
        raise ConfigError.at(f"--run {twice}", "is named twice", "name each run once")
    named: list[tuple[str, int]] = []
    for number, run in enumerate(runs):
        full = run.config.task.name
        names = {
            full,
            full.rsplit("/", 1)[-1],
            run.directory.name,
            str(run.directory),
            run.config.name or full,
        }
        named += [(name, number) for name in names]
    counts = Counter(name for name, _ in named)
    return {name: number for name, number in named if counts[name] == 1}
