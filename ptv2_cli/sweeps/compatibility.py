"""Which runs of a sweep may be lanes of one backbone, and why others may not.

Lanes differ in what trains: prompts, heads, poolers, optimizers, data order. They share the frozen
backbone, the text that goes through it, and how it computes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptv2_cli.config.fingerprint import IGNORED
from ptv2_cli.errors import ConfigError
from ptv2_cli.runs.resolved_run import ResolvedRun
from ptv2_cli.sweeps.leaderboard import show
from ptv2_cli.sweeps.options import LaneRequest

COMPUTING = ("precision", "gradient_checkpointing", "cache", "compile")
"""Keys of `train:` that say how the shared forward pass is computed."""
_PER_LANE = IGNORED | {"task.limit.seed"}
"""Keys that may differ: paths, whose content is compared instead, and which rows a lane draws."""
_PART = re.compile(r"^task\.tasks\[\d+\]")
"""The section of one of several tasks, which has the keys of a task."""
_SHORT = 8
"""Digits of a hash that messages show."""


def alone(resolved_run: ResolvedRun) -> tuple[str, str] | None:
    """The key and the reason why a run cannot share its backbone; None if it can."""
    resolved = resolved_run.resolved
    name = resolved.config.method.name
    if not resolved.method.trains:
        return "method", f"{name} trains nothing"
    if resolved.method.changes_backbone:
        verb = "trains" if resolved.method.trains_backbone else "changes"
        return "method", f"{name} {verb} the backbone"
    family = resolved.shape.family
    reason = resolved.method.unshared(family.name, family.shared_tables)
    if reason is not None:
        return "method", reason
    if resolved.verbalizes:
        return "head", "the verbalizer's words come out of the backbone's own head"
    if resolved.task.kind_spec.writes:
        return "task", f"{resolved.task.name} is written by the backbone's own head"
    return None


def difference(one: ResolvedRun, other: ResolvedRun) -> tuple[str, Any, Any] | None:
    """The first key, with both values, in which two runs need different backbones or text.

    Backbones and data are compared by content: two paths to equal files are no difference. Only
    splits that both runs read are compared.
    """
    return _difference(_needs(one), _needs(other))


def groups(runs: Iterable[ResolvedRun]) -> list[list[ResolvedRun]]:
    """Runs that can share one backbone, together and in their order; the others alone."""
    grouped: list[tuple[list[ResolvedRun], list[_Needs]]] = []
    for run in runs:
        if alone(run) is not None:
            grouped.append(([run], []))
            continue
        needs = _needs(run)
        # Compared with all of them: two may read a split that the first does not read.
        fits = (
            group
            for group in grouped
            if group[1] and all(_difference(known, needs) is None for known in group[1])
        )
        members, known = next(fits, ([], []))
        if not members:
            grouped.append((members, known))
        members.append(run)
        if needs not in known:
            known.append(needs)
    return [members for members, _ in grouped]


def require_one_group(resolved_runs: Sequence[ResolvedRun], request: LaneRequest) -> None:
    """Refuse runs that cannot all be lanes of one backbone.

    Raises:
        ConfigError: it names the key that differs, with its values.
    """
    where = request.where
    hint = f"{request.auto} groups the trials that can share; without lanes they run one by one"
    for resolved_run in resolved_runs:
        reason = alone(resolved_run)
        if reason is not None:
            what = f"{reason[0]}: {reason[1]}, and lanes share one frozen backbone"
            raise ConfigError.at(where, what, hint)
    needs: list[_Needs] = []
    for resolved_run in resolved_runs:
        own = _needs(resolved_run)
        needs += [] if own in needs else [own]
    for one, other in itertools.combinations(needs, 2):
        differing = _difference(one, other)
        if differing is not None:
            values = ", ".join(map(show, _values(differing[0], one, needs)))
            what = (
                f"trials differ in {differing[0]} ({values}): lanes share one backbone and its data"
            )
            raise ConfigError.at(where, what, hint)


@dataclass(frozen=True)
class _Needs:
    """What a run needs from what lanes share."""

    backbone: tuple[str, str]
    """Its name and its identity."""
    splits: Mapping[str, str]
    """Split -> sha256 of its files."""
    paths: Mapping[str, Any]
    """Dotted keys that hold the data's paths."""
    settings: Mapping[str, Any]
    """All other dotted keys that must be equal, those of the backbone first."""


def _needs(resolved_run: ResolvedRun) -> _Needs:
    config = resolved_run.resolved.config
    content = config.model_dump(include={"backbone", "task"})
    leaves = {
        key: value
        for section in ("backbone", "task")
        for key, value in _leaves(section, content[section])
    }
    counting = {key: value for key, value in leaves.items() if _plain(key) not in _PER_LANE}
    train = {f"train.{key}": getattr(config.train, key) for key in COMPUTING}
    # One pass cannot mix the two: see `injection.combined`.
    inside = resolved_run.resolved.method.inside_attention or "prompts in the text's softmax"
    return _Needs(
        backbone=(config.backbone.name, resolved_run.resolved.located.identity),
        splits=resolved_run.data.identities,
        paths={key: value for key, value in leaves.items() if _plain(key) in IGNORED},
        settings={**counting, **train, "method": inside},
    )


def _difference(one: _Needs, other: _Needs) -> tuple[str, Any, Any] | None:
    (name, mark), (name_too, mark_too) = one.backbone, other.backbone
    if mark != mark_too:
        if name != name_too:
            return "backbone", name, name_too
        return "backbone", f"{name} {mark[:_SHORT]}", f"{name} {mark_too[:_SHORT]}"
    keys = list(dict.fromkeys([*one.settings, *other.settings]))
    apart = [key for key in keys if one.settings.get(key) != other.settings.get(key)]
    # Different tasks have different data: report the task, not its files.
    if not apart or not apart[0].startswith(("backbone.", "task.name", "task.tasks")):
        files = _other_files(one, other)
        if files is not None:
            return files
    if not apart:
        return None
    return apart[0], one.settings.get(apart[0]), other.settings.get(apart[0])


def _values(key: str, one: _Needs, needs: Sequence[_Needs]) -> list[Any]:
    """All values of the key in which runs differ from `one`, each once."""
    differences = [_difference(one, other) for other in needs]
    differing = [item for item in differences if item is not None and item[0] == key]
    values: list[Any] = []
    for value in [differing[0][1], *(item[2] for item in differing)]:
        values += [] if value in values else [value]
    return values


def _other_files(one: _Needs, other: _Needs) -> tuple[str, Any, Any] | None:
    """The key by which two runs read different data; None if the splits that both read agree."""
    for split, digest in one.splits.items():
        theirs = other.splits.get(split, digest)
        if theirs == digest:
            continue
        for key, value in one.paths.items():
            if key.startswith("task.") and value != other.paths.get(key):
                return key, value, other.paths.get(key)
        return "task.data", digest[:_SHORT], theirs[:_SHORT]
    return None


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted keys such as `task.limit.train` and `task.tasks[0].max_len`, with their values."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, inner in enumerate(value):
            yield from _leaves(f"{path}[{index}]", inner)
    else:
        yield path, value


def _plain(key: str) -> str:
    return _PART.sub("task", key)
