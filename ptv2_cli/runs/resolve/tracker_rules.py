"""`track:` in a config: the options of each tracker, and the sinks that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from ptv2_cli.config.diagnostics import problems_from
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.schema import RunConfig, TrackerSection
from ptv2_cli.config.section import Section
from ptv2_cli.errors import ConfigError, Problem
from ptv2_cli.registry import TRACKERS


class NoOptions(Section):
    """A tracker without `Options`."""


def tracker_problems(loaded: LoadedConfig) -> Iterator[Problem]:
    """Options that a tracker does not have, and trackers that cannot be imported."""
    for number, section in enumerate(loaded.config.track):
        try:
            model = getattr(TRACKERS.load(section.name), "Options", NoOptions)
            model.model_validate(section.options)
        except ConfigError as error:
            yield from error.problems
        except ValidationError as error:
            path = ("track", number)
            yield from problems_from(error, loaded.origins, path, model=model, data=section.options)


def make_trackers(config: RunConfig) -> Iterator[Callable[[Any], Any]]:
    """For each tracker a function that makes its sink for a run: `Tracker(run, options)`."""
    return map(_maker, config.track)


def _maker(section: TrackerSection) -> Callable[[Any], Any]:
    tracker = TRACKERS.load(section.name)
    options = getattr(tracker, "Options", NoOptions).model_validate(section.options)

    def make(run: Any) -> Any:
        return tracker(run, options)

    make.__name__ = section.name
    return make
