"""`ptv2 eval`: score a finished run again from its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptv2_cli.cli import console
from ptv2_cli.cli.chosen import chosen_or_newest
from ptv2_cli.cli.options import (
    DeviceOption,
    JsonOption,
    OfflineOption,
    OutputOption,
    RunArgument,
    ThreadsOption,
    settle,
    split_option,
)

if TYPE_CHECKING:
    from ptv2_cli.runs.rescore import RescoredRun, ScoreComparison


def evaluate(
    run: RunArgument = None,
    split: Annotated[
        str | None, split_option("Split to score; default: all that the run reports.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="Score on this data folder or file instead."),
    ] = None,
    retention: Annotated[
        bool,
        typer.Option(
            "--retention", help="Also measure retention, if the run's config does not ask for it."
        ),
    ] = False,
    json_: JsonOption = False,
    output: OutputOption = Path("runs"),
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
) -> int:
    """Score a finished run again and compare with the logged scores."""
    settle(offline, threads)
    from ptv2_cli.errors import EXIT_DEFECT
    from ptv2_cli.runs.environment import choose_device
    from ptv2_cli.runs.rescore import canonical_split, open_for_rescoring
    from ptv2_cli.runs.rows.data_warnings import skipped_rows, undefined_metrics
    from ptv2_cli.threads import use_threads

    canonical_split(split)
    use_threads(threads)
    directory = chosen_or_newest(run, output, "ptv2 eval")
    reloaded = open_for_rescoring(
        directory,
        split=split,
        data=data,
        retention=retention,
        device=choose_device(device),
        offline=offline,
    )
    splits = reloaded.session.resolved_run.data.splits
    for text in skipped_rows(reloaded.session.resolved_run.data):
        console.warn(text)
    lines = [line for name in splits for line in reloaded.evaluate(name)]
    for text in undefined_metrics(reloaded.session.resolved_run.data, splits):
        console.warn(text)
    moved = reloaded.measure_retention()
    if json_:
        console.as_json(_content(reloaded, lines, moved))
    else:
        if data is not None:
            _print_data(reloaded, data)
        _print(lines)
        _print(moved, scale=1)
    for problem in reloaded.unwritten:
        told = ": ".join((problem.where, problem.what))
        console.warn(
            "; ".join(filter(None, (f"the scores above are not saved: {told}", problem.hint)))
        )
    if reloaded.exact and any(line.verdict == "differs" for line in (*lines, *moved)):
        console.warn("the scores differ from the logged ones, on the same data and device")
        return EXIT_DEFECT
    return 0


def _print_data(reloaded: RescoredRun, data: Path) -> None:
    """The data that was scored instead of the run's own, and the file with the scores."""
    for split in reloaded.session.resolved_run.data.splits:
        found = reloaded.scored(split)
        file = Path(found["files"][0]).name if data.is_dir() and len(found["files"]) == 1 else ""
        rows = f"{found['rows']} row{'s' if found['rows'] > 1 else ''}"
        console.say(f"{split} of {data / file}: {rows}, sha256 {found['sha256']}")
        console.note(f"written: {reloaded.file(split)}")


def _print(lines: list[ScoreComparison], scale: int = 100) -> None:
    for line in lines:
        logged = "-" if line.logged is None else f"{scale * line.logged:.4f}"
        console.say(
            f"{line.split} {line.metric} {scale * line.value:.4f}, logged {logged}, {line.verdict}"
        )


def _content(
    reloaded: RescoredRun, lines: list[ScoreComparison], moved: list[ScoreComparison]
) -> dict[str, object]:
    return {
        "run": str(reloaded.directory.path),
        "data": {
            split: reloaded.scored(split) for split in reloaded.session.resolved_run.data.splits
        },
        "scores": [{"split": line.split, **_compared(line)} for line in lines],
        **({"retention": [_compared(line) for line in moved]} if moved else {}),
    }


def _compared(line: ScoreComparison) -> dict[str, object]:
    return {
        "metric": line.metric,
        "value": line.value,
        "logged": line.logged,
        "verdict": line.verdict,
    }
