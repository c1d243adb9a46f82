"""Predict new rows with a finished run, a chunk at a time: a million rows need one chunk's memory.

This is what `ptv2_cli.load` gives to Python and what `ptv2 predict` reads files for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch

from ptv2_cli.backbones.backbone import Backbone
from ptv2_cli.config.load import load_config
from ptv2_cli.config.schema import RunConfig
from ptv2_cli.data.formats import Record
from ptv2_cli.data.rows import Row
from ptv2_cli.errors import ConfigError, MachineError, Problem, out_of_memory
from ptv2_cli.runs.build import choose_device
from ptv2_cli.runs.directory import RunDirectory
from ptv2_cli.runs.prediction_stream import Chunk, gathered, record_of
from ptv2_cli.runs.rescore import open_best, open_config, trained_recipe
from ptv2_cli.runs.resolve.resolved_config import ResolvedConfig
from ptv2_cli.runs.results import plain
from ptv2_cli.runs.session import Session
from ptv2_cli.scoring.scores import Prediction
from ptv2_cli.tasks.base import Task

BATCHES = 8
"""Batches in a chunk: rows are sorted by length among so many."""


class Run:
    """A finished run: its metrics and config are read at once, its model when it first predicts."""

    def __init__(
        self, directory: RunDirectory, *, device: str = "auto", offline: bool = False
    ) -> None:
        """Read what the run left.

        Args:
            directory: the run's folder, see `open_run`.
            device: auto, cpu, cuda or cuda:N.
            offline: never touch the network.

        Raises:
            RunError: the run has not finished, or its files are broken or of another version.
        """
        self.directory = directory
        self.metrics: dict[str, Any] = directory.read_metrics()
        """The content of metrics.json."""
        self._loaded = load_config(directory.config)
        self._device = device
        self._offline = offline

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.directory.path

    @property
    def config(self) -> RunConfig:
        """The resolved config: `run.config.train.lr`; `run.config.model_dump()` is plain data."""
        return self._loaded.config

    @cached_property
    def resolved(self) -> ResolvedConfig:
        """The run's task, method and backbone, without weights in memory.

        Raises:
            RunError: the backbone is gone, or is another one now.
        """
        loaded = open_config(self.directory)
        return trained_recipe(self.directory, self.metrics, loaded, offline=self._offline)

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
        return open_best(self.directory, self.metrics, self.resolved, {}, self.device, shared)

    @overload
    def predict(
        self, rows: list[Any] | tuple[Any, ...], *, batch_size: int | None = None
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self, rows: Iterable[Mapping[str, Any]], *, batch_size: int | None = None
    ) -> Iterator[Prediction]: ...

    def predict(
        self, rows: Iterable[Mapping[str, Any]], *, batch_size: int | None = None
    ) -> list[Prediction] | Iterator[Prediction]:
        """A dict per row: the row and what the run says of it, as in `predictions/<split>.jsonl`.

        Args:
            rows: dicts of the task's text columns (a sentence to tag: `tokens` or `text`). A list
                gives a list; any other iterable gives an iterator, which takes a chunk of rows
                at a time.
            batch_size: rows of one forward pass; default: the run's `train.eval_batch_size`.

        Raises:
            DataError: a row is bad; it is named `rows:N`, from 1.
            InputError: the backbone, the checkpoint or the device cannot be used.
        """
        records = (record_of(row, number) for number, row in enumerate(rows, start=1))
        lines = (line for chunk in self.chunks(records, batch_size) for line in chunk.lines)
        return list(lines) if isinstance(rows, list | tuple) else lines

    def chunks(
        self,
        records: Iterable[Record],
        batch_size: int | None = None,
        *,
        skip_bad: bool = False,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[Chunk]:
        """Predict rows as they are read.

        Args:
            records: rows and bad rows, see `read_records`.
            batch_size: see `predict`.
            skip_bad: go on after a bad row. Else it ends the rows: all before it are predicted,
                then its error is raised.
            tick: told the number of rows done since it was last told; 0 before each chunk, when
                the model is there.

        Raises:
            DataError: see `skip_bad`; or nothing can be read at all.
        """
        size = self._batch_size(batch_size)
        # The model is loaded behind the first rows: what is wrong with them is said at once.
        for rows, bad in gathered(self.task, records, BATCHES * size, skip_bad):
            yield Chunk(self._lines(rows, size, tick or (lambda count: None)), bad)
            if bad and not skip_bad:
                raise bad[0].error

    def _batch_size(self, asked: int | None) -> int:
        if asked is not None and asked < 1:
            raise ConfigError.at("batch_size", f"{asked} rows are no batch", "give 1 or more")
        return asked or self.config.train.eval_batch_size

    def _lines(self, rows: list[Row], size: int, tick: Callable[[int], None]) -> list[Prediction]:
        if not rows:
            return []
        session, state = self._best
        tick(0)
        encoder = session.resolved_run.data.encoder
        assert encoder is not None
        features = self.task.encode(rows, encoder)
        predictor = replace(session.predictor, batch_size=size)
        try:
            outputs = predictor(features, _per_row(len(rows), len(features), tick))
        except Exception as error:
            if not out_of_memory(error):
                raise
            hint = f"--batch-size {max(size // 2, 1)} needs less"
            what = f"out of memory over batches of {size} rows"
            raise MachineError(Problem(str(session.device), what, hint)) from error
        found = self.task.decode(rows, features, outputs, state)
        return [plain({**row, **line}) for row, line in zip(rows, found, strict=True)]


def _per_row(rows: int, features: int, tick: Callable[[int], None]) -> Callable[[int], None]:
    """A tick of features that tells one of rows; a long row is several features."""
    done = 0

    def told(count: int) -> None:
        nonlocal done
        before = done * rows // features
        done += count
        tick(done * rows // features - before)

    return told
