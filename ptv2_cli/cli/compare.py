"""`ptv2 compare`: two runs, or two settings of several seeds, on the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.chosen import chosen_run
from ptv2_cli.cli.options import JsonOption, split_option

if TYPE_CHECKING:
    from ptv2_cli.report.compare import Comparison, Disagreement


WITH = "with"
"""The word between the two sides if one has several runs."""


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
        str | None, split_option("Split to compare; default: the one that chose the epoch.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="M", help="Main metric; default: the one that chose the epoch."
        ),
    ] = None,
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=0, help="Print N rows whose answers differ.")
    ] = 0,
    json_: JsonOption = False,
) -> None:
    """Compare two runs, or two settings over seeds, by paired tests."""
    from ptv2_cli.config.suggestions import SPLITS
    from ptv2_cli.errors import InputError
    from ptv2_cli.report.compare import compare as run_comparison
    from ptv2_cli.report.compare import open_finished

    asked = None if split is None else SPLITS.get(split, split)
    a, b = _sides(runs)
    first, second = ([open_finished(chosen_run(path).path) for path in side] for side in (a, b))
    comparison = run_comparison(first, second, asked, metric)
    if show and not comparison.single:
        raise InputError.at(
            "--show", "shows rows of two single runs only", "name one run for each side"
        )
    if comparison.note is not None:
        console.note(comparison.note)
    if json_:
        console.as_json(_content(comparison, show))
        return
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        for run in side:
            console.say(f"{name}: {run.directory.path}")
    _configs(comparison)
    _scores(comparison)
    for row in comparison.disagreements[:show]:
        _row(row)


def _configs(comparison: Comparison) -> None:
    console.say()
    if not comparison.differences:
        console.say("the configs are equal")
        return
    rows = [(key, a or "-", b or "-") for key, a, b in comparison.differences]
    console.table("", ("what differs", "A", "B"), rows)


def _sides(words: list[str]) -> tuple[list[Path], list[Path]]:
    """The runs before and after `with`, which two single runs do not need."""
    from ptv2_cli.errors import InputError

    if len(words) == 2 and WITH not in words:
        words = [words[0], WITH, words[1]]
    if words.count(WITH) != 1 or WITH in (words[0], words[-1]):
        what = f"{len(words)} arguments do not say which runs to compare"
        hint = "ptv2 compare RUN RUN, or ptv2 compare A1 A2 with B1 B2"
        raise InputError.at("compare", what, hint)
    at = words.index(WITH)
    return [Path(word) for word in words[:at]], [Path(word) for word in words[at + 1 :]]


def _scores(comparison: Comparison) -> None:
    from ptv2_cli.report.paired import DRAWS
    from ptv2_cli.report.text_table import p_value

    first = sorted(comparison.scores.items(), key=lambda item: item[0] != comparison.metric)
    seeds = any(test.seeds is not None for test in comparison.tests.values())
    several = len(comparison.scores) > 1
    rows = []
    for name, score in first:
        test = comparison.tests[name]
        cells = [f"{100 * score.a:.1f}", f"{100 * score.b:.1f}", f"{100 * score.difference:+.1f}"]
        cells += [f"{100 * score.low:+.1f} to {100 * score.high:+.1f}", p_value(test.rows)]
        cells += ["-" if test.seeds is None else p_value(test.seeds)] if seeds else []
        rows.append((name, *cells, *([p_value(test.holm)] if several else [])))
    console.say()
    task = comparison.a[0].task
    console.say(
        f"{task} {comparison.split}, {comparison.rows} rows, scores times 100{_counts(comparison)}"
    )
    headings = ["metric", "A", "B", "B - A", "95 % interval", "p rows" if seeds else "p"]
    headings += (["p seeds"] if seeds else []) + (["Holm"] if several else [])
    console.table("", headings, rows, right_from=1)
    named = "p rows" if seeds else "p"
    console.say(f"interval, {named}: paired bootstrap over rows, {DRAWS:,} draws, two-sided")
    if seeds:
        console.say("p seeds: Welch's t-test of the runs' scores, two-sided")
    if comparison.labels is not None:
        alone = _plural(comparison.labels.only_a, "row")
        console.say(
            f"p of accuracy: McNemar, exact; right in A alone: {alone}, "
            f"in B alone: {comparison.labels.only_b}"
        )
    if several:
        of = "the larger p" if seeds else "p"
        console.say(f"Holm: {of}, corrected for {len(comparison.scores)} metrics")
    _seeds(comparison, seeds)
    if comparison.single:
        _answers(comparison)


def _counts(comparison: Comparison) -> str:
    if comparison.single:
        return ""
    return f", means over {len(comparison.a)} and {_plural(len(comparison.b), 'run')}"


def _seeds(comparison: Comparison, tested: bool) -> None:
    """Print what the seeds allow to conclude."""
    from ptv2_cli.report.build import separating

    for name, side in (("A", comparison.a), ("B", comparison.b)):
        seeds = [run.seed for run in side]
        if len(side) > 1 and len(set(seeds)) == 1:
            console.warn(
                f"the runs of {name} all have seed {seeds[0]}; a setting needs different seeds"
            )
        keys = separating([side])
        if keys:
            console.warn(
                f"the runs of {name} are not one setting: they differ in {', '.join(keys)}"
            )
    if not tested:
        console.say("this says nothing about other seeds: give two or more runs for each side")
    elif min(len(comparison.a), len(comparison.b)) == 2:
        console.say("two seeds say little: only a very large difference makes p seeds small")


def _answers(comparison: Comparison) -> None:
    count = len(comparison.disagreements)
    counts = [sum(row.better == side for row in comparison.disagreements) for side in "ab"]
    console.say(
        f"the answers differ on {count} of {comparison.rows} rows: A better on {counts[0]}, "
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
    """The words whose tags differ between the runs."""
    for word, gold, a, b in zip(row.words, row.gold, row.a, row.b, strict=True):
        if a != b:
            console.say(f"  {word}: gold {gold}, A {a}, B {b}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "(none)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _content(comparison: Comparison, show: int) -> dict[str, Any]:
    a, b = ([str(run.directory.path) for run in side] for side in (comparison.a, comparison.b))
    return {
        "a": a[0] if comparison.single else a,
        "b": b[0] if comparison.single else b,
        "task": comparison.a[0].task,
        "split": comparison.split,
        "rows": comparison.rows,
        "metric": comparison.metric,
        "differences": [item._asdict() for item in comparison.differences],
        "scores": {
            name: {
                "a": score.a,
                "b": score.b,
                "difference": score.difference,
                "interval": [score.low, score.high],
                "p": comparison.tests[name].p,
                "p_rows": comparison.tests[name].rows,
                "p_seeds": comparison.tests[name].seeds,
                "p_holm": comparison.tests[name].holm,
                "test": comparison.tests[name].name,
            }
            for name, score in comparison.scores.items()
        },
        "mcnemar": None
        if comparison.labels is None
        else {
            "only_a": comparison.labels.only_a,
            "only_b": comparison.labels.only_b,
            "p": comparison.labels.p,
        },
        "rows_that_differ": len(comparison.disagreements) if comparison.single else None,
        "shown": [vars(row) for row in comparison.disagreements[:show]],
    }
