"""Without the network: list all that is missing before anything starts."""

from __future__ import annotations

from pydantic import ValidationError

from ptv2_cli.backbones.files.locate import is_offline, missing
from ptv2_cli.config.load import LoadedConfig
from ptv2_cli.config.schema import TaskSection
from ptv2_cli.data.source import HubSource
from ptv2_cli.errors import InputError, Problem, gather
from ptv2_cli.runs.resolve.tracker_rules import sending_problems
from ptv2_cli.tasks.catalog import SEVERAL, load_definition
from ptv2_cli.tasks.multi import MultiOptions


def require_offline(loaded: LoadedConfig, *, offline: bool) -> None:
    """Check that backbone and data are on this machine if the network may not be used.

    Raises:
        InputError: with all that is missing and the commands that bring it.
    """
    if not is_offline(offline):
        return
    problems: list[Problem] = []
    lacking = missing(loaded.config.backbone)
    if lacking is not None:
        problems.append(lacking)
    problems += _missing_data(loaded)
    if offline:  # HF_HUB_OFFLINE is about the hub alone
        problems += sending_problems(loaded)
    gather(problems, InputError)


def _missing_data(loaded: LoadedConfig) -> list[Problem]:
    section = loaded.config.task
    if section.name != SEVERAL:
        return _missing_of(section, loaded.where("task"))
    try:
        options = MultiOptions.model_validate(section.options)
    except ValidationError:
        return []  # reported with the config's other errors
    return [
        problem
        for number, part in enumerate(options.tasks)
        for problem in _missing_of(part, loaded.where("task", "tasks", number))
    ]


def _missing_of(task: TaskSection, where: str) -> list[Problem]:
    if task.data is not None or task.train is not None:
        return []
    try:
        hub = load_definition(task.name).hub
    except InputError:
        return []  # an unknown task is reported with the config's other errors
    if hub is None:
        return []
    source = HubSource(hub.repo, hub.revision, hub.folder, offline=True)
    what = source.missing()
    return [] if what is None else [Problem(where, what, source.command)]
