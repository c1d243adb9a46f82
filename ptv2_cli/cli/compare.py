"""`ptv2 compare`: two runs of the same rows against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.chosen import chosen_run

if TYPE_CHECKING:
    from ptv2_cli.report.compare import Comparison, Disagreement


def compare(
    a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run, or a sweep: its best trial.")],
    b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another of the same data.")],
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="S",
            help="Split; default: that of the selection.",
            autocompletion=complete.splits,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="M", help="Metric; default: that of the selection."),
    ] = None,
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=0, help="Print N rows that differ.")
    ] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare two runs: configs, rows that differ, paired tests."""
    from ptv2_cli.config.names import SPLITS
    from ptv2_cli.report.compare import compare as run_comparison
    from ptv2_cli.report.compare import open_finished

    asked = None if split is None else SPLITS.get(split, split)
    first, second = (open_finished(chosen_run(path).path) for path in (a, b))
    found = run_comparison(first, second, asked, metric)
    if json_:
        console.as_json(_content(found, show))
        return
    console.say(f"A: {found.a.directory.path}")
    console.say(f"B: {found.b.directory.path}")
    _configs(found)
    _scores(found)
    for row in found.disagreements[:show]:
        _row(row)


def _configs(found: Comparison) -> None:
    console.say()
    if not found.differences:
        console.say("the configs are equal")
        return
    rows = [(key, a or "-", b or "-") for key, a, b in found.differences]
    console.table("", ("what differs", "A", "B"), rows)


def _scores(found: Comparison) -> None:
    from ptv2_cli.report.paired import DRAWS

    first = sorted(found.scores.items(), key=lambda item: item[0] != found.metric)
    rows = [
        (
            name,
            f"{100 * score.a:.1f}",
            f"{100 * score.b:.1f}",
            f"{100 * score.difference:+.1f}",
            f"{100 * score.low:+.1f} to {100 * score.high:+.1f}",
            p_value(found.p(name)),
        )
        for name, score in first
    ]
    console.say()
    console.say(f"{found.a.task} {found.split}, {found.rows} rows, scores times 100")
    headings = ("metric", "A", "B", "B - A", "95 % interval", "p")
    console.table("", headings, rows, right_from=1)
    console.say(f"interval, p: paired bootstrap over rows, {DRAWS:,} draws, two-sided")
    if found.labels is not None:
        alone = f"{found.labels.only_a} row{'s' if found.labels.only_a != 1 else ''}"
        console.say(
            f"p of accuracy: McNemar, exact; right in A alone: {alone}, "
            f"in B alone: {found.labels.only_b}"
        )
    count = len(found.disagreements)
    counts = [sum(row.better == side for row in found.disagreements) for side in "ab"]
    console.say(
        f"the answers differ on {count} of {found.rows} rows: A better on {counts[0]}, "
        f"B on {counts[1]}"
    )


def _row(row: Disagreement) -> None:
    console.say()
    console.say(f"row {row.number}, better: {row.better.upper()}")
    for key, value in row.row.items():
        console.say(f"  {key}: {_text(value)}")
    if isinstance(row.a, list):
        _tags(row)
        return
    for key, value in (("gold", row.gold), ("A", row.a), ("B", row.b)):
        console.say(f"  {key}: {_text(value)}")


def _tags(row: Disagreement) -> None:
    """The words on whose tags the runs differ."""
    words = row.row.get("tokens", [""] * len(row.a))
    for word, gold, a, b in zip(words, row.gold, row.a, row.b, strict=True):
        if a != b:
            console.say(f"  {word}: gold {gold}, A {a}, B {b}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "(none)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def p_value(p: float) -> str:
    """`0.034`; `< 0.001` for what three places cannot say."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _content(found: Comparison, show: int) -> dict[str, Any]:
    return {
        "a": str(found.a.directory.path),
        "b": str(found.b.directory.path),
        "task": found.a.task,
        "split": found.split,
        "rows": found.rows,
        "metric": found.metric,
        "differences": [item._asdict() for item in found.differences],
        "scores": {
            name: {
                "a": score.a,
                "b": score.b,
                "difference": score.difference,
                "interval": [score.low, score.high],
                "p": found.p(name),
                "test": found.test(name),
            }
            for name, score in found.scores.items()
        },
        "mcnemar": None
        if found.labels is None
        else {
            "only_a": found.labels.only_a,
            "only_b": found.labels.only_b,
            "p": found.labels.p,
        },
        "rows_that_differ": len(found.disagreements),
        "shown": [vars(row) for row in found.disagreements[:show]],
    }
