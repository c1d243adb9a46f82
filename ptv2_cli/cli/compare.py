"""`ptv2 compare`: two runs, or two settings of several seeds, on the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.chosen import chosen_run

if TYPE_CHECKING:
    from ptv2_cli.report.compare import Comparison, Disagreement


WITH = "with"
"""The word between the two sides, where one is several runs."""


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Two runs, or the seeds of two settings with the word `with` between them. A "
            "sweep stands for its best trial.",
            autocompletion=complete.runs,
        ),
    ],
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
    """Compare two runs, or two settings over seeds, by paired tests."""
    from ptv2_cli.config.suggestions import SPLITS
    from ptv2_cli.errors import InputError
    from ptv2_cli.report.compare import compare as run_comparison
    from ptv2_cli.report.compare import open_finished

    asked = None if split is None else SPLITS.get(split, split)
    a, b = _sides(runs)
    first, second = ([open_finished(chosen_run(path).path) for path in side] for side in (a, b))
    found = run_comparison(first, second, asked, metric)
    if show and not found.single:
        raise InputError.at("--show", "rows are shown of two runs alone", "name one run a side")
    if found.note is not None:
        console.note(found.note)
    if json_:
        console.as_json(_content(found, show))
        return
    for name, side in (("A", found.a), ("B", found.b)):
        for run in side:
            console.say(f"{name}: {run.directory.path}")
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


def _sides(words: list[str]) -> tuple[list[Path], list[Path]]:
    """The runs before and after `with`; two runs need no such word."""
    from ptv2_cli.errors import InputError

    if len(words) == 2 and WITH not in words:
        words = [words[0], WITH, words[1]]
    if words.count(WITH) != 1 or WITH in (words[0], words[-1]):
        what = f"{len(words)} words, which do not say what is compared with what"
        hint = "ptv2 compare RUN RUN, or ptv2 compare A1 A2 with B1 B2"
        raise InputError.at("compare", what, hint)
    at = words.index(WITH)
    return [Path(word) for word in words[:at]], [Path(word) for word in words[at + 1 :]]


def _scores(found: Comparison) -> None:
    from ptv2_cli.report.paired import DRAWS
    from ptv2_cli.report.text_table import p_value

    first = sorted(found.scores.items(), key=lambda item: item[0] != found.metric)
    seeds = any(test.seeds is not None for test in found.tests.values())
    several = len(found.scores) > 1
    rows = []
    for name, score in first:
        test = found.tests[name]
        cells = [f"{100 * score.a:.1f}", f"{100 * score.b:.1f}", f"{100 * score.difference:+.1f}"]
        cells += [f"{100 * score.low:+.1f} to {100 * score.high:+.1f}", p_value(test.rows)]
        cells += ["-" if test.seeds is None else p_value(test.seeds)] if seeds else []
        rows.append((name, *cells, *([p_value(test.holm)] if several else [])))
    console.say()
    task = found.a[0].task
    console.say(f"{task} {found.split}, {found.rows} rows, scores times 100{_counts(found)}")
    headings = ["metric", "A", "B", "B - A", "95 % interval", "p rows" if seeds else "p"]
    headings += (["p seeds"] if seeds else []) + (["Holm"] if several else [])
    console.table("", headings, rows, right_from=1)
    named = "p rows" if seeds else "p"
    console.say(f"interval, {named}: paired bootstrap over rows, {DRAWS:,} draws, two-sided")
    if seeds:
        console.say("p seeds: Welch's t-test of the runs' scores, two-sided")
    if found.labels is not None:
        alone = _plural(found.labels.only_a, "row")
        console.say(
            f"p of accuracy: McNemar, exact; right in A alone: {alone}, "
            f"in B alone: {found.labels.only_b}"
        )
    if several:
        of = "the larger p" if seeds else "p"
        console.say(f"Holm: {of}, corrected for {len(found.scores)} metrics")
    _seeds(found, seeds)
    if found.single:
        _answers(found)


def _counts(found: Comparison) -> str:
    if found.single:
        return ""
    return f", means over {len(found.a)} and {_plural(len(found.b), 'run')}"


def _seeds(found: Comparison, tested: bool) -> None:
    """What is to know of the seeds behind the figures."""
    from ptv2_cli.report.settings import separating

    for name, side in (("A", found.a), ("B", found.b)):
        seeds = [run.seed for run in side]
        if len(side) > 1 and len(set(seeds)) == 1:
            console.warn(f"the runs of {name} all have seed {seeds[0]}: no seeds of one setting")
        keys = separating([side])
        if keys:
            console.warn(f"the runs of {name} differ in {', '.join(keys)}: no seeds of one setting")
    if not tested:
        console.say("nothing is said about other seeds: that takes two runs a side or more")
    elif min(len(found.a), len(found.b)) == 2:
        console.say("two seeds say little: p seeds is small for very large differences alone")


def _answers(found: Comparison) -> None:
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
    for word, gold, a, b in zip(row.words, row.gold, row.a, row.b, strict=True):
        if a != b:
            console.say(f"  {word}: gold {gold}, A {a}, B {b}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "(none)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _content(found: Comparison, show: int) -> dict[str, Any]:
    a, b = ([str(run.directory.path) for run in side] for side in (found.a, found.b))
    return {
        "a": a[0] if found.single else a,
        "b": b[0] if found.single else b,
        "task": found.a[0].task,
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
                "p": found.tests[name].p,
                "p_rows": found.tests[name].rows,
                "p_seeds": found.tests[name].seeds,
                "p_holm": found.tests[name].holm,
                "test": found.tests[name].name,
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
        "rows_that_differ": len(found.disagreements) if found.single else None,
        "shown": [vars(row) for row in found.disagreements[:show]],
    }
