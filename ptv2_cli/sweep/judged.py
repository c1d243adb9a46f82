"""What a table of settings can bear: which of them are within the noise of the best."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ptv2_cli.errors import RunError
from ptv2_cli.report.noise import Contest
from ptv2_cli.report.runs import Run
from ptv2_cli.run.directory import RunDirectory
from ptv2_cli.sweep.boards import Board, Setting
from ptv2_cli.sweep.entry import Outcome


def judged(board: Board, outcomes: Mapping[str, Outcome], output: Path) -> Board:
    """The board with verdicts, stuck runs, majority baseline and standard error.

    Args:
        board: settings with their scores.
        outcomes: fingerprint -> how its trial ended.
        output: the folder of the runs, whose metrics and predictions are read.
    """
    if board.metric is None or board.best is None:
        return board
    runs = [_runs(setting, outcomes, output) for setting in board.settings]
    best = next(at for at, setting in enumerate(board.settings) if setting is board.best)
    several = sum(bool(setting.scores) for setting in board.settings) > 1
    contest = Contest(runs, best, board.split, board.metric)
    verdicts = contest.verdicts() if several else [None] * len(runs)
    settings = [
        replace(setting, verdict=verdict, stuck=sum(run.stuck(board.split) for run in own))
        for setting, verdict, own in zip(board.settings, verdicts, runs, strict=True)
    ]
    errors = [run.standard_error(board.split, board.metric) for run in runs[best]]
    known = [error for error in errors if error is not None]
    baselines = (run.majority(board.split, board.metric) for own in runs for run in own)
    return replace(
        board,
        settings=tuple(settings),
        majority=next((value for value in baselines if value is not None), None),
        error=statistics.fmean(known) if known else None,
    )


def _runs(setting: Setting, outcomes: Mapping[str, Outcome], output: Path) -> list[Run]:
    """The setting's runs that have a score; without those whose files have gone meanwhile."""
    found = []
    for entry in setting.entries:
        outcome = outcomes[entry.fingerprint]
        if outcome.scored and outcome.run is not None:
            directory = RunDirectory(output / outcome.run)
            try:
                found.append(Run(directory, directory.read_metrics()))
            except RunError:
                continue
    return found
