"""A finished run, and its predictions of new rows: a million rows need the memory of one chunk.

`ptv2_cli.train` and `ptv2_cli.load` return it, and `ptv2 predict` uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, overload

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.config.load import load_config
from ptv2_cli.config.overrides import Override
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.config.suggestions import SPLITS
from ptv2_cli.data.formats import Record
from ptv2_cli.data.rows import Row
from ptv2_cli.errors import ConfigError, DataError, MachineError, Problem, RunError, out_of_memory
from ptv2_cli.inputs.features import Feature
from ptv2_cli.runs.calibration import calibrated
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.environment import choose_device
from ptv2_cli.runs.finished import load_run_config, open_best_session, resolve_finished
from ptv2_cli.runs.prediction.prediction_stream import Chunk, chunks, record_of
from ptv2_cli.runs.prediction.streaming import WordStream
from ptv2_cli.runs.resolve.generation_rules import without_idle
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.results import prediction_line
from ptv2_cli.runs.run_files import PredictionLine, read_predictions
from ptv2_cli.runs.session import Session
from ptv2_cli.tasks.base import Task
from ptv2_cli.tasks.catalog import load_task

NewRow = str | tuple[str, ...] | Mapping[str, Any]
"""A row to predict: a text, several texts, or a dict of columns."""
BATCHES = 8
"""Batches in a chunk, if their rows are given: rows are sorted by length among so many."""
CHUNK = 1024
"""Rows in a chunk, if they are not."""


class Run:
    """A finished run: its metrics and config are read at once, its model when it first predicts."""

    def __init__(
        self,
        directory: RunDirectory,
        *,
        device: str = "auto",
        offline: bool = False,
        overrides: Sequence[Override] = (),
    ) -> None:
        """Read the run's files.

        Args:
            directory: the run's folder, see `open_run`.
            device: auto, cpu, cuda or cuda:N.
            offline: never touch the network.
            overrides: keys of `generate:` that replace the run's own when it predicts.

        Raises:
            RunError: the run has not finished, or its files are broken or of another version.
            ConfigError: an override is of another section.
        """
        check_written_alone(overrides)
        self._overrides = overrides
        self.files = directory
        self.metrics: dict[str, Any] = directory.read_metrics()
        """The content of metrics.json."""
        self._loaded = load_config(directory.config)
        self._device = device
        self.offline = offline

    def __repr__(self) -> str:
        """The run in one line: its method, backbone, task and score."""
        metrics = self.metrics
        chosen = metrics["selection"]
        value = chosen["value"]
        score = "no score" if value is None else f"{chosen['metric']} {100 * value:.1f}"
        diverged = ", diverged" if metrics["status"] == "diverged" else ""
        return (
            f"<Run {metrics['method']} on {metrics['backbone']['name']}, {metrics['task']['name']} "
            f"{chosen['split']}: {score}{diverged}, {str(self.directory)!r}>"
        )

    @property
    def directory(self) -> Path:
        """The run's folder."""
        return self.files.path

    @property
    def config(self) -> RunConfig:
        """The resolved config: `run.config.train.lr`; `run.config.model_dump()` is plain data."""
        return self._loaded.config

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of history.jsonl, one per evaluation: step, epoch, losses, metrics.

        Raises:
            RunError: the file is missing or broken.
        """
        return self.files.read_history()

    def predictions(self, split: str | None = None) -> list[dict[str, Any]]:
        """The run's predictions of a split that it reports, as in `predictions/<split>.jsonl`.

        Args:
            split: default: the split that chose the epoch if it is reported, else the first.

        Raises:
            RunError: the run does not report the split, or the file is broken.
        """
        reported = list(self.metrics["metrics"])
        if split is None and reported:
            chosen = self.metrics["selection"]["split"]
            split = chosen if chosen in reported else reported[0]
        split = SPLITS.get(split or "", split)
        if split is None or split not in reported:
            what = f"the run reports no predictions of {split}"
            hint = f"it reports: {', '.join(reported) or 'nothing, it has diverged'}"
            raise RunError.at(str(self.directory), what, hint)
        path = self.files.predictions(split)
        try:
            task = load_task(self.config.task.name, self.config.task.options)
            hint, several = self.files.repeat_hint, bool(task.parts)
            return read_predictions(path, self.metrics, task.kind_spec, several, hint)
        except FileNotFoundError:
            raise RunError.at(str(path), "is missing", self.files.repeat_hint) from None

    @cached_property
    def resolved(self) -> ResolvedConfig:
        """The run's task, method and backbone, without weights in memory.

        Raises:
            RunError: the backbone is gone, or is another one now.
        """
        loaded = load_run_config(self.files, without_idle(self._overrides))
        return resolve_finished(self.files, self.metrics, loaded, offline=self.offline)

    @property
    def task(self) -> Task:
        """What the run was trained for: its labels, columns and kind."""
        return self.resolved.task

    @cached_property
    def _best(self) -> tuple[Session, dict[str, float]]:
        return self.open(None)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return choose_device(self._device)

    def open(self, shared: Backbone | None) -> tuple[Session, dict[str, float]]:
        """The model with its best weights, over a view of a loaded backbone if one is given."""
        return open_best_session(self.files, self.metrics, self.resolved, {}, self.device, shared)

    @overload
    def predict(  # type: ignore[overload-overlap]
        self, rows: str | Mapping[str, Any] | tuple[str, ...], *, batch_size: int | None = None
    ) -> PredictionLine: ...

    @overload
    def predict(
        self, rows: list[Any], *, batch_size: int | None = None
    ) -> list[PredictionLine]: ...

    @overload
    def predict(
        self, rows: Iterable[NewRow], *, batch_size: int | None = None
    ) -> Iterator[PredictionLine]: ...

    def predict(
        self, rows: NewRow | Iterable[NewRow], *, batch_size: int | None = None
    ) -> PredictionLine | list[PredictionLine] | Iterator[PredictionLine]:
        """`{"row": ..., "prediction": ...}` for each row, as in `predictions/<split>.jsonl`.

        Args:
            rows: one row, a list of rows, or any other iterable of rows. One row gives one dict, a
                list gives a list, an iterable gives an iterator, which reads a chunk of rows at a
                time. A row is a dict of the task's columns; a text, where the task reads one (a
                sentence to tag included); or a tuple of texts, where it reads several.
            batch_size: rows of one forward pass; default: the run's `train.eval_batch_size`,
                or as many as fit into a budget of tokens.

        Raises:
            DataError: a row is bad; it is named `rows:N`, from 1.
            InputError: the backbone, the checkpoint or the device cannot be used.
        """
        if isinstance(rows, str | Mapping | tuple):
            return _only(list(self._answers([rows], batch_size)))
        found = self._answers(rows, batch_size)
        return list(found) if isinstance(rows, list) else found

    def stream(self, row: NewRow, show: Callable[[str], None]) -> PredictionLine:
        """Predict one row, and pass on the text that is written for it word by word.

        Args:
            row: see `predict`.
            show: gets each part of the text; nothing where the run writes none, or by beams.
        """
        answer = partial(self._lines, size=1, tick=ignore, show=show)
        found = chunks(
            self.task, self._encode, answer, [record_of(self.task, row, 1)], 1, False, False
        )
        return _only([line for chunk in found for line in chunk.lines])

    def _answers(self, rows: Iterable[Any], batch_size: int | None) -> Iterator[PredictionLine]:
        records = (record_of(self.task, row, number) for number, row in enumerate(rows, start=1))
        # Other iterables, such as a database's rows, may belong to the caller's thread.
        found = self.chunks(records, batch_size, ahead=isinstance(rows, list))
        return (line for chunk in found for line in chunk.lines)

    def chunks(
        self,
        records: Iterable[Record],
        batch_size: int | None = None,
        *,
        skip_bad: bool = False,
        tick: Callable[[int], None] | None = None,
        ahead: bool = False,
    ) -> Iterator[Chunk]:
        """Predict rows as they are read.

        Args:
            records: rows and bad rows, see `read_records`.
            batch_size: see `predict`.
            skip_bad: continue after a bad row. Else the rows before it are predicted, then its
                error is raised.
            tick: called with the number of rows done since the last call; with 0 before each
                chunk, when the model is loaded.
            ahead: read and tokenize the next chunk in a thread while one is predicted.

        Raises:
            DataError: see `skip_bad`; or nothing can be read at all.
        """
        if batch_size is not None and batch_size < 1:
            what = f"a batch cannot have {batch_size} rows"
            raise ConfigError.at("batch_size", what, "give 1 or more")
        size = batch_size or self.config.train.eval_batch_size
        rows = BATCHES * size if size else CHUNK
        # The first rows are checked before the model is loaded: a bad one is reported at once.
        answer = partial(self._lines, size=size, tick=tick or ignore)
        return chunks(self.task, self._encode, answer, records, rows, skip_bad, ahead)

    def _encode(self, rows: list[Row]) -> Sequence[Feature]:
        session, _ = self._best
        return self.task.encode(rows, session.data.encoder)

    def _lines(
        self,
        rows: list[Row],
        features: Sequence[Feature],
        size: int | None,
        tick: Callable[[int], None],
        show: Callable[[str], None] | None = None,
    ) -> list[PredictionLine]:
        session, state = self._best
        tick(0)
        writer = session.predictor.writer
        if writer is not None and show is not None and writer.config.num_beams in {None, 1}:
            writer = replace(writer, streamer=WordStream(writer.tokenizer, show))
        predictor = replace(session.predictor, batch_size=size, writer=writer)
        try:
            outputs = predictor(features, _per_row(len(rows), len(features), tick))
        except Exception as error:
            if not out_of_memory(error):
                raise
            hint = f"--batch-size {max(size // 2, 1) if size else 8} needs less"
            what = f"out of memory over batches of {f'{size} rows' if size else 'many tokens'}"
            raise MachineError(Problem(str(session.device), what, hint)) from error
        outputs = calibrated(outputs, self.task.labels, state)
        answers = self.task.decode(rows, features, outputs, state)
        return [prediction_line(row, one) for row, one in zip(rows, answers, strict=True)]


def check_written_alone(overrides: Sequence[Override]) -> None:
    """Check that only `generate:` changes: all else belongs to what was trained.

    Raises:
        ConfigError: another key.
    """
    for override in overrides:
        if override.path[0] != "generate":
            raise ConfigError.at(
                override.origin,
                "a finished run predicts as it was trained: only how it writes can change",
                "--set generate.KEY=VALUE, such as generate.num_beams=4; or train another run",
            )


def _only(lines: list[PredictionLine]) -> PredictionLine:
    """The line of one row.

    Raises:
        DataError: the row holds several.
    """
    if len(lines) != 1:
        what = f"holds {len(lines)} rows in one"
        raise DataError.at("rows:1", what, "give it in a list: predict([row])")
    return lines[0]


def ignore(rows: int) -> None:
    """A tick for callers that follow nothing."""


def _per_row(rows: int, features: int, tick: Callable[[int], None]) -> Callable[[int], None]:
    """A tick that takes features and passes on rows; a long row is several features."""
    done = 0

    def told(count: int) -> None:
        nonlocal done
        before = done * rows // features
        done += count
        tick(done * rows // features - before)

    return told
