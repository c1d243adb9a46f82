"""Options that several commands share, and how they become overrides of a config.

Configs are imported in the functions: `ptv2 --help` and completion must be quick.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptv2_cli.cli import complete
from ptv2_cli.errors import ConfigError, Problem
from ptv2_cli.threads import begin, require_count

if TYPE_CHECKING:
    from ptv2_cli.config.load import LoadedConfig, Override
    from ptv2_cli.config.origins import Origins

RunArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN",
        help="A run, a sweep (its best trial) or hub:OWNER/NAME; default: the newest run.",
        autocompletion=complete.runs,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML config; a run's config.yaml works too.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any key, such as train.lr=1e-2.",
        autocompletion=complete.settings,
    ),
]
UnsetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unset",
        metavar="KEY",
        help="Reset a key to its default.",
        autocompletion=complete.keys,
    ),
]
IncludeOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--include", metavar="FILE", help="Run a Python file that adds methods, tasks or trackers."
    ),
]
PromptLenOption = Annotated[
    str | None, typer.Option("--prompt-len", metavar="N", help="Short for --set prompt_len=N.")
]
LrOption = Annotated[
    str | None, typer.Option("--lr", metavar="X", help="Short for --set train.lr=X.")
]
SeedOption = Annotated[
    str | None, typer.Option("--seed", metavar="N", help="Short for --set train.seed=N.")
]
EpochsOption = Annotated[
    str | None, typer.Option("--epochs", metavar="N", help="Short for --set train.epochs=N.")
]
BatchSizeOption = Annotated[
    str | None,
    typer.Option("--batch-size", metavar="N", help="Short for --set train.batch_size=N."),
]


def split_option(meaning: str) -> Any:
    """`--split` of a command, with its help."""
    return typer.Option("--split", metavar="S", help=meaning, autocompletion=complete.splits)


def shortcuts(
    prompt_len: str | None,
    lr: str | None,
    seed: str | None,
    epochs: str | None,
    batch_size: str | None,
) -> dict[str, str | None]:
    """Flag -> what was typed behind it, for the flags that fix one key each."""
    from ptv2_cli.config.overrides import SHORTCUTS

    return dict(zip(SHORTCUTS, (prompt_len, lr, seed, epochs, batch_size), strict=True))


OutputOption = Annotated[
    Path, typer.Option("--output", metavar="DIR", help="Folder that holds the run directories.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.")
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Never use the network (or set HF_HUB_OFFLINE=1).")
]


ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="Processor threads; default: OMP_NUM_THREADS, else the free cores.",
    ),
]


class Resume(StrEnum):
    """Whether to continue the run where an earlier command left it."""

    auto = "auto"
    never = "never"


def read_config(
    path: Path,
    *,
    sets: list[str] | None = None,
    unsets: list[str] | None = None,
    short: Mapping[str, str | None] | None = None,
    includes: list[Path] | None = None,
) -> LoadedConfig:
    """Load a config with the overrides of the command line; later flags win.

    Args:
        path: the file, or the folder of a run.
        sets: the values of `--set`.
        unsets: the values of `--unset`.
        short: see `shortcuts`.
        includes: the values of `--include`.

    Raises:
        ConfigError: with every problem of the file and the flags.
    """
    from ptv2_cli.config.load import load_config

    overrides = read_overrides(sets, unsets, short or {}, includes)
    return load_config(path, overrides, also=unknown_task)


def read_overrides(
    sets: list[str] | None,
    unsets: list[str] | None,
    short: Mapping[str, str | None],
    includes: list[Path] | None = None,
) -> list[Override]:
    """The overrides of the command line; later ones win.

    Raises:
        ConfigError: a flag cannot be read.
    """
    from ptv2_cli.config.overrides import SHORTCUTS, parse_include, parse_set, parse_unset

    overrides: list[Override] = [parse_include(path) for path in includes or []]
    overrides += [parse_set(text) for text in sets or []]
    overrides += [parse_unset(text) for text in unsets or []]
    given = ((flag, value) for flag, value in short.items() if value is not None)
    return overrides + [parse_set(f"{SHORTCUTS[flag]}={value}", flag) for flag, value in given]


def same_command(
    path: Path,
    *,
    sets: list[str] | None,
    unsets: list[str] | None,
    short: Mapping[str, str | None],
    output: Path,
    offline: bool,
    includes: list[Path] | None = None,
    threads: int | None = None,
) -> list[str]:
    """The words of an equal `ptv2 train`; more flags may follow, later ones win."""
    words = ["ptv2", "train", str(path)]
    words += [word for file in includes or [] for word in ("--include", str(file))]
    words += [word for text in sets or [] for word in ("--set", text)]
    words += [word for text in unsets or [] for word in ("--unset", text)]
    words += [word for flag, value in short.items() if value is not None for word in (flag, value)]
    words += ["--output", str(output)] if output != Path("runs") else []
    words += [] if threads is None else ["--threads", str(threads)]
    return [*words, "--offline"] if offline else words


def without(command: list[str], *keys: str) -> list[str]:
    """The words of `same_command` without the flags for some keys and for the keys below them."""
    from ptv2_cli.config.overrides import SHORTCUTS

    kept, rest = command[:3], iter(command[3:])
    for flag in rest:
        if flag == "--offline":
            kept.append(flag)
            continue
        value = next(rest)
        said = SHORTCUTS.get(flag) or (flag in ("--set", "--unset") and value.partition("=")[0])
        if not any(said == key or str(said).startswith(f"{key}.") for key in keys):
            kept += [flag, value]
    return kept


def unknown_task(data: Mapping[str, Any], origins: Origins) -> list[Problem]:
    """A task that does not exist, reported with the config's other problems."""
    from ptv2_cli.tasks.catalog import load_definition

    section = data.get("task")
    name = section.get("name") if isinstance(section, Mapping) else section
    if not isinstance(name, str):
        return []  # a missing name is reported already
    try:
        load_definition(name)
    except ConfigError as error:
        where = origins.where("task", "name")
        return [replace(problem, where=where) for problem in error.problems]
    return []


def settle(offline: bool, threads: int | None = None) -> None:
    """Set what libraries read from the environment; call it before they are imported.

    Raises:
        ConfigError: `--threads` is no number of threads.
    """
    require_count(threads, "--threads")
    begin()
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
