"""`ptv2 predict`: predict the rows of a file with a finished run, a chunk at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from ptv2_cli.cli import complete, console
from ptv2_cli.cli.chosen import chosen_run, newest_run
from ptv2_cli.cli.options import DeviceOption, OfflineOption, ThreadsOption, settle
from ptv2_cli.cli.predict_text import predict_text, require_alone

if TYPE_CHECKING:
    from ptv2_cli.cli.views.progress import Counting
    from ptv2_cli.data.rows import Reading
    from ptv2_cli.runs.prediction.multi_run_predict import MixedRuns
    from ptv2_cli.runs.prediction.predict import Run
    from ptv2_cli.runs.prediction.prediction_stream import Chunk
    from ptv2_cli.runs.prediction.row_files import PartFile, RowFile

STDIN = Path("-")


class InputFormat(StrEnum):
    """Formats of the rows to predict."""

    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"
    json = "json"
    xlsx = "xlsx"
    conll = "conll"
    text = "text"
    squad = "squad"


def predict(
    input_: Annotated[
        Path | None,
        typer.Argument(metavar="INPUT", help="File of rows, labels not needed; - reads stdin."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="TEXT",
            help="Predict this text instead of a file; repeat it for each further column, or "
            "give a row as JSON.",
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="A run, a sweep (its best trial) or hub:OWNER/NAME; default: the newest run. "
            "Repeat it for several runs; each row then names its run.",
            autocompletion=complete.runs,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write a .jsonl, .json, .csv or .tsv file; default: stdout.",
        ),
    ] = None,
    format_: Annotated[
        InputFormat | None,
        typer.Option("--format", help="Format of INPUT; default: by its name; jsonl for stdin."),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            "--delimiter",
            metavar="CHAR",
            help="Delimiter of a csv or tsv INPUT; default: detected.",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding", metavar="NAME", help="Encoding of INPUT; default: UTF-8 or detected."
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Write bad rows to FILE.bad.jsonl and continue.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", metavar="N", min=1, help="Rows per batch; default: the run's."
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Write otherwise than in training, such as generate.num_beams=4.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    offline: OfflineOption = False,
) -> None:
    """Predict the rows of a file, or one text, with a finished run."""
    settle(offline, threads)
    from ptv2_cli.config.overrides import parse_set
    from ptv2_cli.errors import DataError, InputError
    from ptv2_cli.runs.directory import DEFAULT_OUTPUT
    from ptv2_cli.runs.prediction.multi_run_predict import MixedRuns
    from ptv2_cli.runs.prediction.predict import Run
    from ptv2_cli.runs.prediction.row_files import PartFile, RowFile, check_output
    from ptv2_cli.threads import use_threads

    use_threads(threads)
    overrides = [parse_set(each) for each in sets or ()]
    if text:
        of_files: dict[str, object] = {"INPUT": input_, "--output": output, "--format": format_}
        of_files |= {"--delimiter": delimiter, "--encoding": encoding}
        of_files |= {"--skip-bad": skip_bad, "--batch-size": batch_size}
        require_alone(of_files, len(run or ()))
        directory = chosen_run(run[0]) if run else newest_run(DEFAULT_OUTPUT, "--run")
        predict_text(Run(directory, device=device, offline=offline, overrides=overrides), text)
        return
    if input_ is None:
        hint = "ptv2 predict FILE, - for standard input, or --text TEXT"
        raise InputError.at("ptv2 predict", "there is nothing to predict", hint)
    piped = input_ == STDIN
    if not piped and (not input_.exists() or input_.is_dir()):  # a pipe by name may be read
        what = "is a folder" if input_.is_dir() else "there is no such file"
        raise DataError.at(str(input_), what, "ptv2 predict FILE, or - for standard input")
    if output is not None:
        check_output(output, None if piped else input_)
    good = None if output is None else RowFile(output)
    named = [chosen_run(path) for path in run or ()] or [newest_run(DEFAULT_OUTPUT, "--run")]
    runs = [
        Run(directory, device=device, offline=offline, overrides=overrides) for directory in named
    ]
    opened = runs[0] if len(runs) == 1 else MixedRuns(runs)
    layout = _layout(runs, input_, format_)
    reading = _reading(delimiter, encoding)
    side = output or Path("stdin" if piped else input_.name)
    bad = PartFile(side.with_name(f"{side.name}.bad.jsonl")) if skip_bad else None
    if bad is not None:
        check_output(bad.path, None if piped else input_)
    with _opened(input_) as stream:
        column = runs[0].task.token_column
        _carry_out(opened, stream, input_, layout, column, reading, good, bad, batch_size)


def _reading(delimiter: str | None, encoding: str | None) -> Reading:
    """How to read the input, from the flags, which are checked like the config's keys."""
    from ptv2_cli.config.fields import one_sign, text_encoding
    from ptv2_cli.data.rows import Reading
    from ptv2_cli.errors import ConfigError

    def checked(flag: str, value: str | None, check: Callable[[str], str]) -> str | None:
        try:
            return None if value is None else check(value)
        except ValueError as error:
            raise ConfigError.at(flag, f"{error}, not {value!r}") from None

    return Reading(
        checked("--delimiter", delimiter, one_sign), checked("--encoding", encoding, text_encoding)
    )


def _layout(runs: list[Run], path: Path, asked: InputFormat | None) -> str | None:
    """The format of the rows. With several runs it is jsonl, because each row names its run.

    None: the lines of the file will show it.
    """
    from ptv2_cli.data.stream import format_by_name, formats_of
    from ptv2_cli.errors import ConfigError

    run = runs[0]
    known = formats_of(run.task.kind) if len(runs) == 1 else ("jsonl",)
    if asked is not None and asked.value not in known:
        reader = run.task.name if len(runs) == 1 else "a prediction with several runs"
        what = f"{reader} does not read {asked.value}"
        raise ConfigError.at("--format", what, f"--format {' | '.join(known)}")
    if asked is not None:
        return asked.value
    return "jsonl" if path == STDIN or len(runs) > 1 else format_by_name(path, run.task.kind)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path == STDIN:
        if sys.stdin.isatty():
            console.note("type rows; Ctrl-D ends the input")
        yield sys.stdin.buffer
        return
    with path.open("rb") as stream:
        yield stream


def _carry_out(
    run: Run | MixedRuns,
    stream: BinaryIO,
    path: Path,
    layout: str | None,
    column: int | str,
    reading: Reading,
    good: RowFile | None,
    bad: PartFile | None,
    batch_size: int | None,
) -> None:
    """Read, predict and write; the rows written so far stay if it fails."""
    from ptv2_cli.cli.views.progress import Counting
    from ptv2_cli.data.stream import read_records

    name = Path("standard input") if path == STDIN else path
    files = [file for file in (good, bad) if file is not None]
    try:
        size = path.stat().st_size if path.is_file() else None
        bar = good is not None or not console.out.is_terminal
        with Counting(stream, size, bar=bar) as counting:
            records = read_records(stream, name, layout, column, reading)
            for chunk in run.chunks(
                records,
                batch_size,
                skip_bad=bad is not None,
                tick=counting.tick,
                ahead=size is not None,  # nothing blocks a thread that reads a regular file
            ):
                _write(chunk, good, bad)
                counting.wrote(len(chunk.lines), len(chunk.bad))
                if chunk.bad and bad is None:  # its error comes next
                    console.note("stopped at a bad row: --skip-bad leaves such rows out")
        _finish(counting, name, good, bad)
    finally:
        for file in files:
            file.stop()
        if good is not None and good.kept:
            console.note(f"the {good.lines:,} rows predicted so far are in {good.part}")


def _write(chunk: Chunk, good: RowFile | None, bad: PartFile | None) -> None:
    from ptv2_cli.runs.prediction.prediction_stream import bad_line
    from ptv2_cli.runs.results import as_line

    if good is None:
        console.lines(map(as_line, chunk.lines))
    else:
        good.add(chunk.lines)
    if bad is not None and chunk.bad:
        bad.write(as_line(bad_line(row)) for row in chunk.bad)


def _finish(counting: Counting, name: Path, good: RowFile | None, bad: PartFile | None) -> None:
    """Give the files their names and report what they hold."""
    from ptv2_cli.errors import DataError

    if bad is not None:
        bad.finish()
    if not counting.rows and counting.bad:
        assert bad is not None
        what = f"no row of {counting.bad:,} can be used"
        raise DataError.at(str(name), what, f"{bad.path} has the reason for each row")
    if not counting.rows:
        raise DataError.at(
            str(name), "holds no rows", "a row is a line of jsonl, or a line below a header"
        )
    if good is not None:
        good.finish()
    where = f" to {good.path}" if good is not None else ""
    rows = f"{counting.rows:,} row{'s' if counting.rows > 1 else ''}"
    console.note(f"{rows} predicted{where}, {counting.rate:,.0f} rows/s")
    if bad is not None and counting.bad:
        console.warn(f"{counting.bad:,} bad rows were left out: {bad.path}")
