"""Options of a sweep beside its lists: lanes, the engine, and those of a search."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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


def word_of(key: str, words: Sequence[str], value: Any, where: str) -> str:
    """The value of an option that is one of a few words.

    Raises:
        ConfigError: it is none of them.
    """
    word = str(getattr(value, "source", value))
    if word in words:
        return word
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.4)
    what = f"{key} must be one of {', '.join(words)}, not {seen(value, 'one of')}"
    hint = f"{'did you mean' if near else 'choose'} {(near or words)[0]}?"
    raise ConfigError.at(where, what, hint if near else hint.rstrip("?"))


def trials_of(value: Any, where: str) -> int:
    """The value of `trials`: how many settings a search tries.

    Raises:
        ConfigError: no whole number, 1 or more.
    """
    text = str(getattr(value, "source", value)).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or int(text) < 1:
        what = f"trials must be a whole number, 1 or more, not {seen(value, 'a number')}"
        raise ConfigError.at(where, what, "write trials: 20, or type --trials 20")
    return int(text)


def duration_of(value: Any, where: str) -> float:
    """The value of `time` in seconds: `90s`, `45m`, `2h`, `1h30m`.

    Raises:
        ConfigError: it is no duration.
    """
    text = str(getattr(value, "source", value)).strip()
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?) *([dhms])", text)
    whole = re.fullmatch(r"(?: *\d+(?:\.\d+)? *[dhms])+", text)
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if not whole or seconds <= 0:
        what = f"time must be a duration such as 2h or 1h30m, not {seen(value, 'a duration')}"
        raise ConfigError.at(where, what, "write time: 2h, or type --time 2h (d, h, m, s)")
    return seconds


def storage_of(value: Any, where: str) -> str:
    """The value of `storage`: the URL of a database.

    Raises:
        ConfigError: it is no such URL.
    """
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9+]*://\S+", value):
        return value
    hint = "write storage: postgresql://USER:PASSWORD@HOST/DATABASE; leave it out for a file"
    raise ConfigError.at(where, "storage must be the URL of a database", hint)


SEARCHES = ("tpe", "random", "grid")
PRUNERS = ("hyperband", "median")
SEARCH_OPTIONS: dict[str, Callable[[Any, str], Any]] = {
    "search": partial(word_of, "search", SEARCHES),
    "trials": trials_of,
    "prune": partial(word_of, "prune", PRUNERS),
    "time": duration_of,
    "storage": storage_of,
}
OPTIONS: dict[str, Callable[[Any, str], Any]] = {
    "lanes": lanes_of_section,
    "engine": engine_of_section,
    **SEARCH_OPTIONS,
}
"""The keys of `sweep:` that are not lists of values, and how to read them."""
SAMPLES = {
    "lanes": "auto",
    "engine": "local",
    "search": "tpe",
    "trials": "20",
    "prune": "hyperband",
    "time": "2h",
    "storage": "postgresql://USER:PASSWORD@HOST/DATABASE",
}
"""A value of each, for messages."""


@dataclass(frozen=True)
class Said:
    """The value of an option, and who said it."""

    value: Any
    where: str
    """The flag, or the line of a config."""


def requested_search(
    flags: Mapping[str, str | None], configs: Sequence[ConfigSource], base: Sequence[Override]
) -> dict[str, Said]:
    """The options of a search that were given: by flags, else by the configs.

    Raises:
        ConfigError: a value is wrong, or the configs differ.
    """
    said: dict[str, Said] = {}
    for key, read in SEARCH_OPTIONS.items():
        text = flags.get(key)
        if text is not None:
            said[key] = Said(read(text, f"--{key}"), f"--{key}")
            continue
        value, where = _from_configs(key, configs, base)
        if where:
            said[key] = Said(value, where)
    return said


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
