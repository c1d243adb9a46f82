"""The `ptv2` command: its subcommands, and how errors become messages and exit codes."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ptv2_cli import plugins
from ptv2_cli.backbones.gguf import folder as gguf_folder
from ptv2_cli.cli import (
    check,
    clean,
    compare,
    console,
    errors,
    evaluate,
    inspect,
    interop,
    listing,
    predict,
    push,
    ranks,
    report,
    serve,
    setup,
    sweep,
    train,
    watch,
)
from ptv2_cli.errors import (
    EXIT_DEFECT,
    EXIT_INPUT,
    LESS_MEMORY,
    InputError,
    Problem,
    Ptv2Error,
    StoppedAtOnce,
    out_of_memory,
)
from ptv2_cli.files import DISK_FAILED
from ptv2_cli.version import __version__

_NO_PATH = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR}
"""Errors of the system about a path that the user gave."""
# ClickException: click's own, or in newer typer that of the copy of click that it carries.
_UsageError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="ptv2",
    help="Train, evaluate and compare P-tuning v2 and its baselines on frozen language models.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("serve")(serve.serve)
app.command("check")(check.check)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
app.command("watch")(watch.watch)
app.command("compare")(compare.compare)
app.command("errors")(errors.errors)
app.command("inspect")(inspect.inspect)
app.command("export")(interop.export)
app.command("import")(interop.import_run)
app.command("push")(push.push)
app.command("list")(listing.list_)
app.command("clean")(clean.clean)
app.command("init")(setup.init)
app.command("doctor")(setup.doctor)
app.command("schema")(setup.schema)


def _version(asked: bool) -> None:
    if asked:
        console.say(f"ptv2 {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
) -> None:
    """Read the options before the command."""
    try:
        Path.cwd()
    except FileNotFoundError:
        what = "the working folder was deleted"
        raise InputError.at("", what, "cd to a folder that exists") from None
    ranks.begin(context.invoked_subcommand)


def main() -> None:
    """Run the command line; the exit code says how it ended.

    0: done; 1: a bug, or memory or disk failed; 2: wrong input; 129, 130, 143: interrupted.
    """
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if debug:  # accepted anywhere, although it belongs to no command
        arguments = ["--debug", *(word for word in arguments if word != "--debug")]
    console.open_streams()
    code = run(arguments, debug)
    gc.freeze()  # the interpreter's end looks through all that libraries made, for a second
    sys.exit(code)


def run(arguments: list[str], debug: bool = False) -> int:
    """Run one command and return its exit code; errors are printed, never raised."""
    plugins.announce = gguf_folder.announce = console.note
    try:
        return _code(app(arguments, prog_name="ptv2", standalone_mode=False))
    except Ptv2Error as error:
        ranks.tell(error)
        if debug:
            console.show_traceback()
        console.problems(error.problems)
        return error.exit_code
    except _UsageError as error:
        ranks.after_rank_0()
        return _usage(error)
    except (typer.Abort, KeyboardInterrupt):
        console.note("interrupted")
        return 128 + signal.SIGINT
    except StoppedAtOnce as error:
        console.note("interrupted without saving again; the last checkpoint is kept")
        return 128 + error.signum
    except BrokenPipeError:
        # Nobody reads the output any more; the interpreter must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DEFECT
    except Exception as error:
        ranks.tell(error)
        return _defect(error, debug)


def _usage(error: Any) -> int:
    """Report wrong arguments; returns the exit code."""
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if message.startswith("Usage:"):  # no arguments at all: show the help
        error.show()
    else:
        what = " ".join(message.replace("Value error, ", "").split())
        command = context.command_path if context else "ptv2"
        console.problems([Problem("", what, f"{command} -h shows its usage")])
    return int(error.exit_code)


def _code(result: object) -> int:
    return result if isinstance(result, int) else 0


def _defect(error: Exception, debug: bool) -> int:
    """Report that memory or disk failed, or a bug; returns the exit code."""
    if debug:
        console.show_traceback()
    if out_of_memory(error):
        console.problems([Problem("", "out of memory", LESS_MEMORY)])
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        hint = "free some space; the same command continues the run"
        console.problems([Problem(str(error.filename or ""), "the disk is full", hint)])
    elif isinstance(error, OSError) and error.errno in DISK_FAILED:
        what = f"the disk or the network file system failed: {error.strerror}"
        hint = "try again when it works; the same command continues the run"
        console.problems([Problem(str(error.filename or ""), what, hint)])
    elif isinstance(error, PermissionError):
        what = "no permission to read or write it"
        console.problems([Problem(str(error.filename), what, "--output DIR writes runs elsewhere")])
        return EXIT_INPUT
    elif isinstance(error, OSError) and error.errno in _NO_PATH:
        path = str(error.filename)
        where = path if len(path) <= 100 else f"{path[:97]}..."
        hint = "give another path, or correct the one in the config"
        console.problems([Problem(where, f"cannot be used: {error.strerror}", hint)])
        return EXIT_INPUT
    else:
        if not debug:
            console.show_traceback()
        what = "this is a bug in ptv2: please report it with the lines above"
        console.problems([Problem("", what)])
    return EXIT_DEFECT
