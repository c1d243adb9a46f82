"""Opened runs, those that can over one backbone, and their predictions of mixed rows."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.data.formats import RawRow
from ptv2_cli.data.rows import Row
from ptv2_cli.errors import DataError, MachineError, Problem, UnfitRow, out_of_memory
from ptv2_cli.inputs.features import Feature
from ptv2_cli.runs.build import load_for
from ptv2_cli.runs.calibration import calibrated
from ptv2_cli.runs.prediction.multi_run_predict import unshared_reason
from ptv2_cli.runs.prediction.predict import Run
from ptv2_cli.runs.results import prediction_line
from ptv2_cli.runs.run_files import PredictionLine
from ptv2_cli.runs.session import Session
from ptv2_cli.training.evaluate import Outputs, PredictionRequest, predict


@dataclass(eq=False)
class Group:
    """Runs that use one copy of a backbone."""

    backbone: Backbone | None
    """None: the only run has loaded a copy that no other can use."""
    members: list[OpenModel] = field(default_factory=list)


@dataclass(eq=False)
class OpenModel:
    """A run with its weights in memory."""

    run: Run
    session: Session
    state: dict[str, float]
    group: Group
    unshared: str | None
    """Why it has a backbone of its own; None: others may share it."""

    @property
    def draws_by_batch(self) -> bool:
        """Whether what it writes depends on the rows beside it, as with beams that draw."""
        writer = self.session.predictor.writer
        return writer is not None and writer.seed is not None

    def encode(self, rows: list[Row]) -> Sequence[Feature]:
        """The features of rows.

        Raises:
            UnfitRow: one does not fit the model.
        """
        return self.run.task.encode(rows, self.session.data.encoder)

    def lines(
        self, rows: list[Row], features: Sequence[Feature], outputs: Outputs
    ) -> list[PredictionLine]:
        """The lines that `ptv2 predict` writes for rows with these outputs."""
        outputs = calibrated(outputs, self.run.task.labels, self.state)
        answers = self.run.task.decode(rows, features, outputs, self.state)
        return [prediction_line(row, one) for row, one in zip(rows, answers, strict=True)]


@dataclass(frozen=True)
class CheckedRows:
    """Rows of one request that their run's task accepts."""

    model: OpenModel
    rows: list[Row]
    sources: list[RawRow]
    """What each row was read from."""


class Models:
    """All opened runs; used by one thread at a time, see `Batcher`."""

    def __init__(self) -> None:
        self.groups: list[Group] = []

    def open(self, run: Run) -> OpenModel:
        """Load a run's weights, and its backbone unless one that is loaded can serve it.

        Raises:
            InputError: the backbone or the checkpoint cannot be used.
            MachineError: there is no memory for it.
        """
        unshared = unshared_reason(run, run)
        with _memory(f"no memory to load {run.directory}", "remove another run first"):
            group = self._group_for(run) if unshared is None else None
            if group is None:
                whole = load_for(run.resolved, run.device) if unshared is None else None
                group = Group(whole)
            view = None if group.backbone is None else group.backbone.view()
            session, state = run.open(view)
        model = OpenModel(run, session, state, group, unshared)
        group.members.append(model)
        if group not in self.groups:
            self.groups.append(group)
        return model

    def close(self, model: OpenModel) -> None:
        """Give back the memory of a run, and that of its backbone if no other run uses it."""
        model.group.members.remove(model)
        if not model.group.members:
            self.groups.remove(model.group)
        del model
        gc.collect()

    def predict(
        self, requests: Sequence[CheckedRows]
    ) -> list[list[PredictionLine] | DataError | MachineError]:
        """The lines of each request, or why it has none.

        The requests are of one group. Rows of several runs share forward passes, see
        `multiplex.Sharing`.

        Raises:
            MachineError: out of memory.
        """
        models = list(dict.fromkeys(request.model for request in requests))
        shares = [_Share.of([each for each in requests if each.model is one]) for one in models]
        wanted = [
            PredictionRequest(share.model.session.predictor, share.features)
            for share in shares
            if share.rows
        ]
        with _memory("out of memory", "send fewer or shorter rows at once"):
            answers = iter(predict(wanted))
            for share in shares:
                share.answer(next(answers).outputs if share.rows else [])
        by_request = {id(key): value for share in shares for key, value in share.answers}
        return [by_request[id(request)] for request in requests]

    def _group_for(self, run: Run) -> Group | None:
        for group in self.groups:
            if group.backbone is not None and unshared_reason(group.members[0].run, run) is None:
                return group
        return None


@dataclass
class _Share:
    """What a run has in a batch: the rows of some requests, encoded together."""

    model: OpenModel
    requests: list[CheckedRows]
    """Those whose rows all fit the model."""
    rows: list[Row]
    features: Sequence[Feature]
    answers: list[tuple[CheckedRows, list[PredictionLine] | DataError | MachineError]]

    @classmethod
    def of(cls, requests: list[CheckedRows]) -> _Share:
        """Encode the rows of requests of one run; those with rows that do not fit are answered."""
        model = requests[0].model
        rows = [row for request in requests for row in request.rows]
        answers: list[tuple[CheckedRows, list[PredictionLine] | DataError | MachineError]] = []
        try:
            return cls(model, requests, rows, model.encode(rows), answers)
        except UnfitRow:
            unfit = [(request, _unfit(request)) for request in requests]
        answers = [(request, error) for request, error in unfit if error is not None]
        good = [request for request, error in unfit if error is None]
        rows = [row for request in good for row in request.rows]
        return cls(model, good, rows, model.encode(rows) if rows else [], answers)

    def answer(self, outputs: Outputs) -> None:
        """Divide the lines of the rows among the requests."""
        lines = self.model.lines(self.rows, self.features, outputs) if self.rows else []
        begin = 0
        for request in self.requests:
            end = begin + len(request.rows)
            self.answers.append((request, lines[begin:end]))
            begin = end


def _unfit(request: CheckedRows) -> DataError | None:
    """The error of the rows of a request that do not fit the model, in the words of `predict`."""
    problems = []
    for row, source in zip(request.rows, request.sources, strict=True):
        try:
            request.model.encode([row])
        except UnfitRow as error:
            (problem,) = error.problems
            problems.append(Problem(source.where, problem.what, problem.hint))
    return DataError(*problems) if problems else None


@contextmanager
def _memory(what: str, hint: str) -> Iterator[None]:
    """Turn an error that says that memory gave out into one for people."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise MachineError(Problem("", what, hint)) from error
