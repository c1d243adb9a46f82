"""How many lanes are asked for: `--lanes`, or `lanes:` in a config's `sweep:`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ptv2_cli.config.faults import seen
from ptv2_cli.config.load import ConfigSource, LoadedConfig, Override, load_config
from ptv2_cli.errors import ConfigError

Lanes = int | Literal["auto"]
KEY = "lanes"
"""The key of `sweep:` that is no list of values."""
FLAG = "--lanes"


@dataclass(frozen=True)
class LaneRequest:
    """How many trials may share one backbone at once, and who said so."""

    count: Lanes = 1
    where: str = ""
    """The flag, or the line of a config; empty where neither says it."""
    auto: str = f"{FLAG} auto"
    """How to write `auto` in the same place."""


def parse_lanes(text: str) -> Lanes:
    """What `--lanes` says: a number, or `auto`.

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
            FLAG, f"{text!r} is neither a number nor auto", f"type {FLAG} auto, or {FLAG} 4"
        ) from None
    if number < 1:
        what = f"{number} lanes can train nothing"
        raise ConfigError.at(FLAG, what, f"type {FLAG} 1 for one trial after another, or more")
    return number


def lanes_of_section(loaded: LoadedConfig) -> Lanes | None:
    """What `lanes:` in a config's `sweep:` says; None where it does not stand there.

    Raises:
        ConfigError: it is neither `auto` nor a whole number, 1 or more.
    """
    section = loaded.config.sweep or {}
    if KEY not in section:
        return None
    value: Any = section[KEY]
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return int(value)
    raise ConfigError.at(
        loaded.where("sweep", KEY),
        f"sweep.{KEY} must be auto or a whole number, 1 or more, not {seen(value, 'a number')}",
        f"write sweep: {{{KEY}: auto}}",
    )


def requested_lanes(
    flag: str | None, configs: Sequence[ConfigSource], base: Sequence[Override]
) -> LaneRequest:
    """What the flag says, else what the configs say, else one trial after another.

    Raises:
        ConfigError: the flag or a section cannot be, or the sections of two configs differ.
    """
    if flag is not None:
        count = parse_lanes(flag)
        return LaneRequest(count, f"{FLAG} {count}")
    first: LaneRequest | None = None
    for path in configs:
        loaded = load_config(path, base)
        said = lanes_of_section(loaded)
        if said is None:
            continue
        where = loaded.where("sweep", KEY)
        if first is None:
            first = LaneRequest(said, where, f"sweep: {{{KEY}: auto}}")
        elif said != first.count:
            what = f"sweep.{KEY} is {said}, and {first.count} in {first.where}"
            hint = f"one sweep has one number of lanes: type {FLAG} {said}, or correct one"
            raise ConfigError.at(where, what, hint)
    return first or LaneRequest()
