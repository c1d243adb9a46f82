"""`track:` in a config: the options of each tracker, and the sinks that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError

from ptv2_cli.config.diagnostics import problems_from
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.schema import RunConfig, TrackerSection
from ptv2_cli.config.section import Section
from ptv2_cli.errors import ConfigError, Problem
from ptv2_cli.registry import BUILT_IN, TRACKERS


class NoOptions(Section):
    """A tracker without `Options`."""


def tracker_problems(loaded: LoadedConfig) -> Iterator[Problem]:
    """Wrong options, trackers that stand twice, and those whose library is not installed."""
    seen: set[str] = set()
    for number, section in enumerate(loaded.config.track):
        where = loaded.where("track", number)
        if section.name in seen:
            yield Problem(where, f"track: {section.name} stands twice", "leave one of them out")
        seen.add(section.name)
        if TRACKERS.source(section.name) == BUILT_IN and find_spec(section.name) is None:
            what = f"track: {section.name} is not installed"
            yield Problem(where, what, f"pip install 'ptv2[{section.name}]'")
        try:
            model = getattr(TRACKERS.load(section.name), "Options", NoOptions)
            model.model_validate(section.options)
        except ConfigError as error:
            yield from error.problems
        except ValidationError as error:
            path = ("track", number)
            yield from problems_from(error, loaded.origins, path, model=model, data=section.options)


def sending_problems(loaded: LoadedConfig) -> Iterator[Problem]:
    """Trackers that use the network."""
    for number, section in enumerate(loaded.config.track):
        try:
            server = getattr(_options(section), "server", None)
        except (ConfigError, ValidationError):
            continue  # reported with the config's other errors
        if server is not None:
            what = f"track: {section.name} sends the run to {server}, which --offline forbids"
            hint = "--unset track trains without it"
            if section.name == "wandb":
                hint = f"write track: {{name: wandb, mode: offline}}, or {hint}"
            yield Problem(loaded.where("track", number), what, hint)


def make_trackers(config: RunConfig) -> Iterator[Callable[[Any], Any]]:
    """For each tracker a function that makes its sink for a run: `Tracker(run, options)`."""
    return map(_maker, config.track)


def _maker(section: TrackerSection) -> Callable[[Any], Any]:
    tracker, options = TRACKERS.load(section.name), _options(section)

    def make(run: Any) -> Any:
        return tracker(run, options)

    make.tracker = section.name  # type: ignore[attr-defined]
    return make


def _options(section: TrackerSection) -> Any:
    tracker = TRACKERS.load(section.name)
    return getattr(tracker, "Options", NoOptions).model_validate(section.options)
