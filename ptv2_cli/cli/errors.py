"""`ptv2 errors`: the rows that a run got wrong, worst first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptv2_cli.cli import console
from ptv2_cli.cli.chosen import chosen_or_newest
from ptv2_cli.cli.options import OutputOption, RunArgument, split_option

if TYPE_CHECKING:
    from ptv2_cli.report.mistakes import Mistake
    from ptv2_cli.report.predictions import RunPredictions

SHOWN = 10
"""Rows that the text shows unless `--limit` says otherwise."""
LONGEST = 300
"""Characters of a text that are shown."""


class Order(StrEnum):
    """What comes first."""

    worst = "worst"
    confidence = "confidence"
    row = "row"


class ErrorsFormat(StrEnum):
    """How the rows are written."""

    text = "text"
    jsonl = "jsonl"


def errors(
    run: RunArgument = None,
    split: Annotated[
        str | None, split_option("Split to show; default: validation if reported.")
    ] = None,
    cell: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--cell",
            metavar="GOLD PREDICTED",
            help="Only rows of class GOLD that got class PREDICTED; O: no entity.",
        ),
    ] = None,
    sort: Annotated[
        Order, typer.Option("--sort", help="Order of the rows; row: as in the file.")
    ] = Order.worst,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", metavar="N", min=0, help=f"Rows to show; default: {SHOWN}, with jsonl all."
        ),
    ] = None,
    format_: Annotated[
        ErrorsFormat, typer.Option("--format", help="Text for people, JSON lines for programs.")
    ] = ErrorsFormat.text,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the confusion matrix (.png, .svg)."),
    ] = None,
    output: OutputOption = Path("runs"),
) -> None:
    """Show the rows that a run got wrong, worst first."""
    from ptv2_cli.config.suggestions import SPLITS
    from ptv2_cli.report.compare import open_finished
    from ptv2_cli.report.mistakes import in_cell, mistakes
    from ptv2_cli.report.predictions import earlier_schema, predicted
    from ptv2_cli.report.runs import parts

    if plot is not None:
        from ptv2_cli.report.pictures.plots import require_drawable

        require_drawable(plot, "--plot")
    directory = chosen_or_newest(run, output, "ptv2 errors")
    whole = open_finished(directory.path)
    chosen = whole.default_split() if split is None else SPLITS.get(split, split)
    views = [predicted(view, chosen) for view in parts(whole)]
    note = earlier_schema([whole])
    if note is not None:
        console.note(note)
    made = [mistakes(view, sort.value) for view in views]
    if cell is not None:
        made = [in_cell(view, own, cell) for view, own in zip(views, made, strict=True)]
    if plot is not None:
        _draw(views, plot)
    most = limit if limit is not None else SHOWN if format_ is ErrorsFormat.text else None
    for view, own in zip(views, made, strict=True):
        if format_ is ErrorsFormat.jsonl:
            console.lines(json.dumps(_content(one), ensure_ascii=False) for one in own[:most])
        else:
            _show(view, own, own[:most], cell)


def _draw(views: Sequence[RunPredictions], path: Path) -> None:
    """A file for each task; with several, each has its task's name in the file's."""
    from ptv2_cli.report.mistakes import confusion
    from ptv2_cli.report.pictures.plots import draw_matrix

    for view in views:
        name = view.run.prefix.removesuffix(".")
        file = path.with_name(f"{path.stem}-{name}{path.suffix}") if name else path
        what = "entities" if view.task.kind_spec.answer == "tags" else "rows"
        title = f"{view.run.task} {view.split}\n{view.run.name}"
        draw_matrix(confusion(view), title, file, what)
        console.note(f"wrote {file}")


def _show(
    found: RunPredictions,
    made: Sequence[Mistake],
    shown: Sequence[Mistake],
    cell: tuple[str, str] | None,
) -> None:
    answer = found.task.kind_spec.answer
    what = "not exact" if answer == "number" else "wrong"
    metric = str(found.run.metrics["selection"]["metric"])
    score = found.run.score(found.split, metric)
    told = "" if score is None else f"; {metric} {100 * score:.1f}"
    of = f"{len(made)} of {len(found.lines)} rows {'is' if len(made) == 1 else 'are'} {what}"
    if cell is not None:
        of = f"{len(made)} of {len(found.lines)} rows: {cell[0]} taken for {cell[1]}"
    console.say(f"{found.run.directory.path}")
    console.say(f"{found.run.task} {found.split}: {of}{told}")
    for one in shown:
        console.say()
        _row(found, one)
    if len(shown) < len(made):
        console.note(f"{len(shown)} of {len(made)} shown; --limit {len(made)} shows all")


def _row(found: RunPredictions, one: Mistake) -> None:
    sure = "" if one.confidence is None else f" ({one.confidence:.2f})"
    answer = found.task.kind_spec.answer
    if answer == "tags":
        count = len(one.entities)
        console.say(f"row {one.number}: {count} wrong {'entity' if count == 1 else 'entities'}")
    elif answer == "number":
        console.say(
            f"row {one.number}: gold {one.gold:g}, predicted {one.predicted:g}, off by {one.size:g}"
        )
    elif answer == "writing":
        sure = "" if one.confidence is None else f", log probability {one.confidence:.2f}"
        console.say(f"row {one.number}: F1 {100 * (1 - one.size):.1f}{sure}")
        console.say(f"  gold: {' | '.join(map(_whole, dict.fromkeys(one.gold)))}", hang=4)
        console.say(f"  written: {_whole(one.predicted) or '(nothing)'}", hang=4)
    elif isinstance(one.gold, list):
        console.say(f"row {one.number}: F1 {100 * (1 - one.size):.1f}")
        console.say(f"  gold: {' | '.join(dict.fromkeys(one.gold)) or '(no answer)'}", hang=4)
        console.say(f"  predicted: {one.predicted or '(no answer)'}{sure}", hang=4)
    else:
        console.say(f"row {one.number}: gold {one.gold}, predicted {one.predicted}{sure}")
    _inputs(found, one)
    for gold, guess in one.entities:
        texts = [
            "O" if item is None else f"{item.type} {' '.join(one.words[item.start : item.end])!r}"
            for item in (gold, guess)
        ]
        console.say(f"  gold {texts[0]}, predicted {texts[1]}", hang=4)


def _inputs(found: RunPredictions, one: Mistake) -> None:
    """The row's columns, without those that hold the gold answer."""
    from ptv2_cli.report.excerpts import columns_of

    for key, text in columns_of(one, found.task.gold_columns, LONGEST).items():
        console.say(f"  {key}: {text}", hang=4)


def _whole(text: str) -> str:
    """All of a text to compare with another, on one line."""
    return " ".join(text.split())


def _content(one: Mistake) -> dict[str, Any]:
    content = {
        "number": one.number,
        "gold": one.gold,
        "predicted": one.predicted,
        "confidence": one.confidence,
        "size": one.size,
        "row": dict(one.row),
    }
    if one.entities:
        content["entities"] = [
            {"gold": gold and gold._asdict(), "predicted": guess and guess._asdict()}
            for gold, guess in one.entities
        ]
    return content
