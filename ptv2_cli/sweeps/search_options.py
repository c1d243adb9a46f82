"""Options of a search, beside its space: what proposes settings, how many, what is given up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from ptv2_cli.errors import ConfigError, Problem, gather
from ptv2_cli.sweeps.axes import SEED, Axis
from ptv2_cli.sweeps.options import Said

JOURNAL = "study.journal"
"""The file of a study in its sweep's folder."""
PACKAGE = "optuna"
INSTALL = "pip install 'ptv2[search]'"


@dataclass(frozen=True)
class SearchOptions:
    """What a config's `sweep:` or the flags say about a search."""

    search: str
    """tpe, random or grid."""
    trials: int | None = None
    """Settings to try, over all commands; None: no limit but the time, or the whole grid."""
    prune: str | None = None
    """hyperband or median; None: every setting is trained to its end."""
    seconds: float | None = None
    """Time after which no further setting starts, over all commands."""
    storage: str | None = None
    """URL of a database; None: a journal file in the sweep's folder."""

    @property
    def shown_storage(self) -> str | None:
        """The URL without its password."""
        return None if self.storage is None else without_password(self.storage)


def search_options(said: Mapping[str, Said]) -> SearchOptions | None:
    """The options of a search; None where neither flags nor config ask for one.

    Args:
        said: option -> its value and who said it, for those that were given.

    Raises:
        ConfigError: an option of a search, and no search; or Optuna is not installed.
    """
    if "search" not in said:
        problems = [
            Problem(each.where, f"{key} belongs to a search, and there is none", _SEARCH_HINT)
            for key, each in said.items()
        ]
        gather(problems, ConfigError)
        return None
    if find_spec(PACKAGE) is None:
        what = f"a search needs {PACKAGE.capitalize()}, which is not installed"
        raise ConfigError.at(said["search"].where, what, INSTALL)
    values = {key: each.value for key, each in said.items()}
    return SearchOptions(
        search=values["search"],
        trials=values.get("trials"),
        prune=values.get("prune"),
        seconds=values.get("time"),
        storage=values.get("storage"),
    )


_SEARCH_HINT = "write sweep: {search: tpe}, or type --search tpe"


def require_no_ranges(axes: Sequence[Axis]) -> None:
    """Refuse ranges in a sweep without a search.

    Raises:
        ConfigError: a key has a range.
    """
    problems = [
        Problem(axis.where, f"{axis.key} has a range, which only a search can try", _SEARCH_HINT)
        for axis in axes
        if axis.scale is not None
    ]
    gather(problems, ConfigError)


def check_search(
    options: SearchOptions, said: Mapping[str, Said], axes: Sequence[Axis], configs: int
) -> None:
    """Refuse a search that cannot work.

    Raises:
        ConfigError: with everything that is wrong.
    """
    where = said["search"].where
    problems: list[Problem] = []
    space = [axis for axis in axes if axis.key != SEED]
    seeds = next((len(axis.values) for axis in axes if axis.key == SEED), 1)
    if configs > 1:
        hint = "start one search for each config"
        problems.append(Problem(where, f"a search takes one config, not {configs}", hint))
    if not space:
        what = "the space of the search is empty: no key has a range or choices"
        hint = "type --space 'train.lr={log: [1e-3, 1e-1]}', or write sweep: {space: {...}}"
        problems.append(Problem(where, what, hint))
    if options.search == "grid":
        problems += [
            Problem(
                axis.where,
                f"{axis.key} has a range without steps, and search: grid tries every value",
                f"write {{{axis.key}: {{choice: [...]}}}}, or choose search: tpe",
            )
            for axis in space
            if axis.scale not in (None, "int")
        ]
    elif options.trials is None and options.seconds is None:
        what = f"search: {options.search} has no end: neither trials nor time are limited"
        problems.append(Problem(where, what, "type --trials 20, or --time 2h"))
    if options.prune is not None and seeds > 1:
        what = f"prune judges one run by itself, and each setting has {seeds} seeds"
        hint = "leave prune out; or search with one seed, and train the best with others"
        problems.append(Problem(said["prune"].where, what, hint))
    problems += [
        Problem(
            axis.where,
            f"{axis.key} decides what is scored: a search compares the scores of one task",
            f"leave {axis.key} out; start one search for each value",
        )
        for axis in space
        for path in axis.paths
        if path[0] == "selection" or path in {("task",), ("task", "name")}
    ]
    gather(problems, ConfigError)


def without_password(url: str) -> str:
    """A database's URL as it may be shown: `postgresql://me:***@host/db`."""
    return re.sub(r"(://[^:/@]*:).*@", r"\1***@", url)


def password_of(url: str) -> str | None:
    """The password in a URL; None where there is none."""
    found = re.search(r"://[^:/@]*:(.*)@", url)
    return found[1] if found else None
