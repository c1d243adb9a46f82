"""Options of a sweep beside its lists: how many lanes, and which engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ptv2_cli.config.faults import seen
from ptv2_cli.config.load import ConfigSource, Override, load_config
from ptv2_cli.errors import ConfigError
from ptv2_cli.registry import ENGINES

Lanes = int | Literal["auto"]
LANES = "--lanes"
ENGINE = "--engine"


@dataclass(frozen=True)
class LaneRequest:
    """How many trials may share one backbone at once, and who said so."""

    count: Lanes = 1
    where: str = ""
    """The flag, or the line of a config; empty where neither says it."""
    auto: str = f"{LANES} auto"
    """How to write `auto` in the same place."""


@dataclass(frozen=True)
class ClusterRequest:
    """Which cluster runs the trials, and what each of its tasks takes of a node."""

    address: str | None = None
    """HOST:PORT, or `auto`: the cluster that this machine belongs to; None: the engine decides."""
    cpus: float = 1.0
    gpus: float = 0.0


def requested_cluster(
    engine: str, address: str | None, cpus: float | None, gpus: float | None
) -> ClusterRequest:
    """The flags about a cluster.

    Raises:
        ConfigError: the local engine has no use for them, or a number is impossible.
    """
    flags = {"--address": address, "--cpus-per-trial": cpus, "--gpus-per-trial": gpus}
    typed = [flag for flag, value in flags.items() if value is not None]
    if engine == "local" and typed:
        what = "the local engine runs all trials in this process"
        raise ConfigError.at(typed[0], what, f"add {ENGINE} ray, or leave out {typed[0]}")
    if cpus is not None and not 0 < cpus < math.inf:
        raise ConfigError.at("--cpus-per-trial", f"{cpus:g} CPUs cannot train", "type 1 or more")
    if gpus is not None and not 0 <= gpus < math.inf:
        hint = "type 1, a part such as 0.5, or 0 to train on the CPU"
        raise ConfigError.at("--gpus-per-trial", f"{gpus:g} is no number of GPUs", hint)
    # Ray takes a part of a GPU, or whole ones.
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        hint = f"type {int(gpus)}, or a part of one GPU such as 0.5"
        raise ConfigError.at("--gpus-per-trial", f"{gpus:g} is neither a part nor whole", hint)
    return ClusterRequest(address, cpus or 1.0, gpus or 0.0)


def parse_lanes(text: str) -> Lanes:
    """The value of `--lanes`: a number, or `auto`.

    Raises:
        ConfigError: it is neither, or a number below 1.
    """
    word = text.strip()
    if word == "auto":
        return "auto"
    try:
        number = int(word)
    except ValueError:
        raise ConfigError.at(
            LANES, f"{text!r} is neither a number nor auto", f"type {LANES} auto, or {LANES} 4"
        ) from None
    if number < 1:
        what = f"{number} lanes cannot train anything"
        raise ConfigError.at(LANES, what, f"type {LANES} 1 for one trial after another, or more")
    return number


def lanes_of_section(value: Any, where: str) -> Lanes:
    """The value of `lanes:` in a config's `sweep:`.

    Raises:
        ConfigError: it is neither `auto` nor a whole number, 1 or more.
    """
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return int(value)
    raise ConfigError.at(
        where,
        f"sweep.lanes must be auto or a whole number, 1 or more, not {seen(value, 'a number')}",
        "write sweep: {lanes: auto}",
    )


def engine_of_section(value: Any, where: str) -> str:
    """The value of `engine:` in a config's `sweep:`.

    Raises:
        ConfigError: there is no such engine.
    """
    return ENGINES.canonical(str(getattr(value, "source", value)), where)


OPTIONS: dict[str, Callable[[Any, str], Any]] = {
    "lanes": lanes_of_section,
    "engine": engine_of_section,
}
"""The keys of `sweep:` that are not lists of values, and how to read them."""


def requested_lanes(
    flag: str | None, configs: Sequence[ConfigSource], base: Sequence[Override]
) -> LaneRequest:
    """The number of lanes: from the flag, else from the configs, else 1.

    Raises:
        ConfigError: the value is wrong, or the configs differ.
    """
    if flag is not None:
        count = parse_lanes(flag)
        return LaneRequest(count, f"{LANES} {count}")
    count, where = _from_configs("lanes", configs, base)
    return LaneRequest(count, where, "sweep: {lanes: auto}") if where else LaneRequest()


def requested_engine(
    flag: str | None, configs: Sequence[ConfigSource], base: Sequence[Override]
) -> str:
    """The name of the engine: from the flag, else from the configs, else `local`.

    Raises:
        ConfigError: there is no such engine, or the configs differ.
    """
    if flag is not None:
        return ENGINES.canonical(flag, ENGINE)
    return _from_configs("engine", configs, base)[0] or "local"


def _from_configs(
    key: str, configs: Sequence[ConfigSource], base: Sequence[Override]
) -> tuple[Any, str]:
    """The value of an option that the configs agree on, and its line; None where none has it."""
    value, where = None, ""
    for path in configs:
        loaded = load_config(path, base)
        section = loaded.config.sweep or {}
        if key not in section:
            continue
        line = loaded.where("sweep", key)
        other = OPTIONS[key](section[key], line)
        if not where:
            value, where = other, line
        elif other != value:
            what = f"sweep.{key} is {other} here and {value} in {where}"
            hint = f"one sweep takes one value: type --{key} {other}, or change one of the configs"
            raise ConfigError.at(line, what, hint)
    return value, where
