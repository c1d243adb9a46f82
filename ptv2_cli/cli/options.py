"""Options that several commands share, and how they become overrides of a config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ptv2_cli.cli import complete
from ptv2_cli.config.load import LoadedConfig, Override, load_config, parse_set, parse_unset
from ptv2_cli.config.places import Places
from ptv2_cli.errors import ConfigError, Problem

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML config; a run's config.yaml works too.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Fix any key, such as train.lr=1e-2.",
        autocompletion=complete.settings,
    ),
]
UnsetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unset",
        metavar="KEY",
        help="Return a key to its default.",
        autocompletion=complete.keys,
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
OutputOption = Annotated[
    Path, typer.Option("--output", metavar="DIR", help="Folder that holds the run directories.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.")
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Never touch the network (or set HF_HUB_OFFLINE=1).")
]


class Resume(StrEnum):
    """What to do with what an earlier start of the same run left."""

    auto = "auto"
    never = "never"


def read_config(
    path: Path,
    *,
    sets: list[str] | None = None,
    unsets: list[str] | None = None,
    prompt_len: str | None = None,
    lr: str | None = None,
    seed: str | None = None,
) -> LoadedConfig:
    """Load a config under the command line's overrides; later flags win.

    Raises:
        ConfigError: with all that is wrong with the file and the flags.
    """
    overrides = read_overrides(sets, unsets, prompt_len=prompt_len, lr=lr, seed=seed)
    return load_config(path, overrides, also=_unknown_task)


def read_overrides(
    sets: list[str] | None,
    unsets: list[str] | None,
    *,
    prompt_len: str | None = None,
    lr: str | None = None,
    seed: str | None = None,
) -> list[Override]:
    """What the command line fixes, in the order in which it wins.

    Raises:
        ConfigError: a flag is broken.
    """
    overrides: list[Override] = [parse_set(text) for text in sets or []]
    overrides += [parse_unset(text) for text in unsets or []]
    for flag, key, value in (
        ("--prompt-len", "prompt_len", prompt_len),
        ("--lr", "train.lr", lr),
        ("--seed", "train.seed", seed),
    ):
        if value is not None:
            overrides.append(parse_set(f"{key}={value}", flag))
    return overrides


def same_command(
    path: Path,
    *,
    sets: list[str] | None,
    unsets: list[str] | None,
    prompt_len: str | None,
    lr: str | None,
    seed: str | None,
    output: Path,
    offline: bool,
) -> list[str]:
    """The words of a `ptv2 train` that says the same; flags may be added, later ones win."""
    words = ["ptv2", "train", str(path)]
    words += [word for text in sets or [] for word in ("--set", text)]
    words += [word for text in unsets or [] for word in ("--unset", text)]
    for flag, value in (("--prompt-len", prompt_len), ("--lr", lr), ("--seed", seed)):
        words += [flag, value] if value is not None else []
    words += ["--output", str(output)] if output != Path("runs") else []
    return [*words, "--offline"] if offline else words


def _unknown_task(data: Mapping[str, Any], places: Places) -> list[Problem]:
    """A task that does not exist, told beside the config's other problems."""
    from ptv2_cli.tasks.definition import load_definition

    section = data.get("task")
    name = section.get("name") if isinstance(section, Mapping) else section
    if not isinstance(name, str):
        return []  # a missing name is told already
    try:
        load_definition(name)
    except ConfigError as error:
        where = places.where("task", "name")
        return [Problem(where, item.what, item.hint) for item in error.problems]
    return []


def settle(offline: bool) -> None:
    """Settle what libraries read from the environment; call before they are imported."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
